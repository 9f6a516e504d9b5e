"""Writes pictures as an H.264 clip that every player, camera library and RTSP server takes."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

import cv2
import numpy as np
import numpy.typing as npt


def write_clip(
    path: Path, pictures: Iterable[npt.NDArray[np.uint8]], rate: int, quality: int, preset: str, keyframes: int = 0
) -> None:
    """Encode BGR pictures (height, width, 3), all of one even size, as an mp4.

    One thread and no B-frames: the same pictures give the same file with the same ffmpeg, and a server may send the
    frames in the order they are stored.

    Args:
        path: the file to write; replaced if it exists.
        pictures: at least one.
        rate: frames a second.
        quality: the encoder's constant rate factor: 18 looks like the original, 28 is small.
        preset: the encoder's preset, such as `veryfast`.
        keyframes: every so many frames one; one a second by default.

    Raises:
        subprocess.CalledProcessError: ffmpeg failed; it has said why on stderr.
    """
    pictures = iter(pictures)
    first = next(pictures)
    height, width = first.shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"]
    codec = ["-c:v", "libx264", "-preset", preset, "-crf", str(quality), "-threads", "1"]
    every = str(keyframes or rate)
    structure = ["-bf", "0", "-g", every, "-keyint_min", every, "-sc_threshold", "0"]
    plain = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"]
    command = ["ffmpeg", "-loglevel", "error", "-y", *source, *codec, *structure, *plain, str(path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as ffmpeg,
        # A broken pipe says that ffmpeg has gone; its exit status is judged below.
        contextlib.suppress(BrokenPipeError),
        cast("IO[bytes]", ffmpeg.stdin) as pipe,
    ):
        for picture in itertools.chain([first], pictures):
            pipe.write(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).data)
    if ffmpeg.returncode:
        raise subprocess.CalledProcessError(ffmpeg.returncode, command)
