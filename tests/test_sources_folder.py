"""A folder of pictures as a source."""

import os
import struct
import threading
import time
import zlib

import cv2
import numpy as np
import pytest

from edge.frames import CaptureError
from edge.settings import CameraSettings
from edge.sources import make_source
from edge.sources.folder import FolderSource


@pytest.fixture
def folder(tmp_path):
    """Five pictures of growing brightness, one that is none, and a text."""
    for number in range(5):
        suffix = "png" if number % 2 else "JPG"
        cv2.imwrite(str(tmp_path / f"{number}.{suffix}"), np.full((20, 30, 3), 50 * number, np.uint8))
    (tmp_path / "2b.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    return tmp_path


def huge_png(side):
    """The beginning of a grey picture of so many pixels a side (PNG, 11.2.1)."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def opened(folder, **settings):
    source = FolderSource(CameraSettings(source=f"{folder}/", **settings), threading.Event())
    source.open()
    return source


def read_all(source):
    frames = []
    while True:
        try:
            frames.append(source.read())
        except CaptureError as error:
            return frames, error


def test_pictures_come_in_the_order_of_their_names_at_their_rate_and_end(folder):
    frames, error = read_all(opened(folder, fps=4, pace="fast"))
    assert error.reason == "ended"
    assert [round(f.image.mean()) if f.image.size else None for f in frames] == [0, 50, 100, None, 150, 200]
    assert [f.time for f in frames] == [number / 4 for number in range(6)]
    assert frames[-1].wall <= time.time()
    assert frames[-1].wall - frames[0].wall == pytest.approx(5 / 4)


def test_a_name_that_is_no_utf_8_is_read_like_any_other(folder):
    os.rename(os.fsencode(folder / "0.JPG"), os.fsencode(folder) + b"/0\xe9.JPG")
    frames, _ = read_all(opened(folder, pace="fast"))
    assert round(frames[0].image.mean()) == 0


def test_what_no_picture_can_be_costs_its_turn_only(folder):
    """A picture larger than OpenCV takes is one that cannot be decoded; what is no file is passed over."""
    (folder / "1b.png").write_bytes(huge_png(60_000))
    os.mkfifo(folder / "3b.png")
    frames, error = read_all(opened(folder, fps=4, pace="fast"))
    assert error.reason == "ended"
    shown = [round(f.image.mean()) if f.image.size else None for f in frames]
    assert shown == [0, 50, None, 100, None, 150, 200]


def test_unwanted_pictures_are_not_even_read(folder):
    source = opened(folder, fps=4, pace="fast")
    for path in sorted(folder.iterdir())[1:5]:
        path.write_bytes(b"gone")
    frames = [source.read(lambda time: time in (0.0, 1.25)) for _ in range(6)]
    assert [f.image.mean() if f.image.size else None for f in frames] == [0, *[None] * 4, 200]
    assert [f.refused for f in frames] == [False, *[True] * 4, False]


def test_real_time_waits(folder):
    started = time.monotonic()
    frames, _ = read_all(opened(folder, fps=20))
    assert frames[-1].captured - started >= 5 / 20 - 0.02


def test_loop_goes_on_and_sees_new_pictures(folder):
    source = opened(folder, fps=4, pace="fast", loop=True)
    for _ in range(6):
        source.read()
    cv2.imwrite(str(folder / "9.png"), np.full((20, 30, 3), 255, np.uint8))
    frames = [source.read() for _ in range(7)]
    assert [f.time for f in frames] == [1.5 + number / 4 for number in range(7)]
    assert frames[-1].image.mean() == 255


@pytest.mark.parametrize("loop", [True, False])
def test_folder_without_a_good_picture_is_unreadable(tmp_path, loop):
    with pytest.raises(CaptureError) as caught:
        opened(tmp_path)
    assert caught.value.reason == "unreadable"
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    frames, error = read_all(opened(tmp_path, pace="fast", loop=loop))
    assert [f.image.size for f in frames] == [0]
    assert error.reason == "unreadable"


def test_a_folder_that_is_empty_for_a_moment_is_tried_again(folder):
    source = opened(folder, loop=True, pace="fast")
    before = [source.read() for _ in range(6)][-1]
    pictures = {path: path.read_bytes() for path in folder.iterdir()}
    for path in pictures:
        path.unlink()
    with pytest.raises(CaptureError, match="holds no pictures") as away:
        source.read()
    assert away.value.reason == "not_found", "no final one"
    (folder / "0.jpg").write_bytes(b"no picture")
    source.close()
    source.open()
    source.read()
    with pytest.raises(CaptureError, match="can decode") as away:
        source.read()
    assert away.value.reason == "not_found"
    for path, content in pictures.items():
        path.write_bytes(content)
    source.close()
    source.open()
    assert source.read().time > before.time


def test_missing_folder_says_so(tmp_path):
    with pytest.raises(CaptureError, match="No such file") as caught:
        opened(tmp_path / "gone")
    assert caught.value.reason == "not_found"


def test_settings_name_the_source(folder):
    kinds = {"0": "WebcamSource", "picamera": "PicameraSource", "rtsp://h/x": "NetworkSource", "a.mp4": "FileSource"}
    kinds[f"{folder}/"] = "FolderSource"
    for source, name in kinds.items():
        assert type(make_source(CameraSettings(source=source), threading.Event())).__name__ == name
