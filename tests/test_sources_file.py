"""Video files as a source."""

import errno
import os
import re
import shutil
import subprocess
import threading
import time

import cv2
import numpy as np
import pytest

from deploy.demo.encode import write_clip
from edge.demo import CLIP
from edge.frames import CaptureError
from edge.settings import CameraSettings
from edge.sources.file import FileSource
from tests.parts import tool

RATE, FRAMES = 20, 12


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Twelve frames at 20 a second, each brighter than the one before."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    pictures = (np.full((64, 96, 3), 20 * number + 10, np.uint8) for number in range(FRAMES))
    write_clip(path, pictures, RATE, quality=18, preset="veryfast")
    return path


def read_all(source):
    """Read a file source to its end; returns frames and the final error."""
    frames = []
    while True:
        try:
            frames.append(source.read())
        except CaptureError as error:
            return frames, error


def open_file(path, **settings):
    source = FileSource(CameraSettings(source=str(path), **settings), threading.Event())
    source.open()
    return source


def test_file_gives_every_frame_at_its_time_then_ends(clip):
    source = open_file(clip, pace="fast")
    frames, error = read_all(source)
    source.close()
    assert error.reason == "ended"
    assert [f.time for f in frames] == pytest.approx([number / RATE for number in range(FRAMES)], abs=0.002)
    brightness = [f.image.mean() for f in frames]
    assert brightness == sorted(brightness)
    assert frames[0].image.shape == (64, 96, 3)
    assert frames[0].image.dtype == np.uint8
    # The wall clock of a frame is that of the first one plus media time, whatever the pace.
    assert [f.wall - frames[0].wall for f in frames] == pytest.approx([f.time for f in frames], abs=1e-3)
    assert frames[0].wall == pytest.approx(time.time(), abs=30)


def test_unwanted_frames_keep_their_times_and_are_no_pictures(clip):
    source, asked = open_file(clip, pace="fast"), []
    frames = [source.read(lambda time: asked.append(time) or len(asked) % 3 == 1) for _ in range(FRAMES)]
    source.close()
    assert asked == [f.time for f in frames] == [f.time for f in read_all(open_file(clip, pace="fast"))[0]]
    assert [f.refused for f in frames] == [number % 3 != 0 for number in range(FRAMES)]
    assert all((f.image.size == 0) == f.refused for f in frames)
    assert [round(f.image.mean() / 60) for f in frames if not f.refused] == [0, 1, 2, 3]


def test_fast_does_not_wait_and_realtime_does(clip):
    times = {}
    for pace in ("fast", "realtime"):
        started = time.monotonic()
        source = open_file(clip, pace=pace)
        frames, _ = read_all(source)
        times[pace] = frames[-1].captured - started
        for f in frames if pace == "realtime" else []:
            assert f.captured - started >= f.time - 0.05
    assert times["realtime"] >= (FRAMES - 1) / RATE - 0.05
    assert times["fast"] < times["realtime"]


def test_stop_ends_the_wait_of_a_realtime_file(clip):
    stopped = threading.Event()
    source = FileSource(CameraSettings(source=str(clip)), stopped)
    source.open()
    source.read()
    source._clock._monotonic += 3600
    waiting = threading.Thread(target=source.read)
    waiting.start()
    stopped.set()
    waiting.join(30)
    assert not waiting.is_alive()


def test_loop_goes_on_with_media_time_that_never_goes_back(clip):
    source = open_file(clip, pace="fast", loop=True)
    frames = [source.read() for _ in range(3 * FRAMES)]
    source.close()
    steps = np.diff([f.time for f in frames])
    np.testing.assert_allclose(steps, 1 / RATE, atol=0.01)
    assert frames[FRAMES].image.mean() == pytest.approx(frames[0].image.mean(), abs=3)


@pytest.mark.parametrize(
    ("name", "content", "reason", "says"),
    [
        ("missing.mp4", None, "not_found", "no such file"),
        ("text.mp4", b"just words\n" * 50, "unreadable", "not a video"),
        ("empty.mp4", b"", "unreadable", "not a video"),
    ],
)
def test_file_that_is_no_video_says_so(tmp_path, name, content, reason, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CaptureError, match=says) as caught:
        open_file(tmp_path / name)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(str(tmp_path / name))


def test_truncated_file_gives_what_it_has_and_ends(tmp_path):
    short = tmp_path / "short.mp4"
    short.write_bytes(CLIP.read_bytes()[: CLIP.stat().st_size // 4])
    frames, error = read_all(open_file(short, pace="fast"))
    assert error.reason == "ended"
    assert 10 < len(frames) < 300


def test_fast_pace_gives_times_that_are_not_ahead_of_the_clock(clip):
    source = open_file(clip, pace="fast")
    frames, _ = read_all(source)
    assert frames[-1].wall <= time.time()
    assert frames[0].wall == pytest.approx(time.time() - FRAMES / RATE, abs=30)


def test_fast_loop_is_never_ahead_of_the_clock(clip):
    source = open_file(clip, pace="fast", loop=True)
    for _ in range(5 * FRAMES):
        assert source.read().wall <= time.time()


def test_loop_keeps_the_intervals_of_a_variable_rate(clip, tmp_path):
    varied = tmp_path / "varied.mp4"
    stretch = ["-vf", "setpts=N*N*0.02/TB", "-fps_mode", "vfr"]
    command = [tool("ffmpeg", "ffmpeg"), "-v", "error", "-i", clip, *stretch, varied]
    subprocess.run(command, check=True)
    source = open_file(varied, pace="fast", loop=True)
    steps = np.diff([source.read().time for _ in range(2 * FRAMES)])
    assert steps[FRAMES - 2] > 4 * steps[0]
    np.testing.assert_allclose(steps[: FRAMES - 1], steps[FRAMES:], atol=0.01)


@pytest.mark.parametrize("pace", ["fast", "realtime"])
def test_media_time_goes_on_when_the_file_is_opened_again(clip, pace):
    source = open_file(clip, pace=pace)
    before = [source.read() for _ in range(3)]
    source.close()
    started = time.monotonic()
    source.open()
    after = [source.read() for _ in range(3)]
    np.testing.assert_allclose(np.diff([f.time for f in before + after]), 1 / RATE, atol=0.01)
    if pace == "realtime":
        assert after[-1].captured - started >= 2 / RATE - 0.02, "waits again, from the moment of opening"


def damaged(clip, tmp_path, change):
    """Return a copy of the clip of the demo with other bytes."""
    path = tmp_path / "damaged.mp4"
    content = bytearray(clip.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


def test_frames_behind_damaged_ones_are_played_and_those_counted(tmp_path):
    """As the bits of the packets of some frames in the middle are turned."""

    def hurt(content):
        middle = len(content) // 2
        content[middle : middle + 3000] = np.random.default_rng(5).bytes(3000)

    announced = int(cv2.VideoCapture(str(CLIP)).get(cv2.CAP_PROP_FRAME_COUNT))
    source = open_file(damaged(CLIP, tmp_path, hurt), pace="fast")
    frames, error = read_all(source)
    # A packet can be beyond recognition.
    assert announced - 5 < sum(1 + frame.broken for frame in frames) <= announced
    assert len(frames) > 0.9 * announced
    assert sum(frame.broken for frame in frames) > 0
    assert str(error).endswith("played to its end")
    assert re.match(r"\d+ of its frames cannot be decoded; copy", source.damage())


def test_a_file_cut_off_says_how_much_of_it_was_there(tmp_path):
    def cut(content):
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)

    source = open_file(damaged(CLIP, tmp_path, cut), pace="fast")
    frames, error = read_all(source)
    assert error.reason == "ended"
    said = rf"damaged\.mp4: played to its end, after {len(frames)} frames of \d+ that it announces: is it whole\?"
    assert re.search(said, str(error))
    assert len(frames) > 20


def test_a_looped_file_cut_off_says_so_too(tmp_path, caplog):
    def cut(content):
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)

    source = open_file(damaged(CLIP, tmp_path, cut), pace="fast", loop=True)
    while "that it announces: is it whole?" not in caplog.text:
        source.read()
    assert source.read().image.size


def test_a_looped_file_that_is_written_anew_is_tried_again(clip, tmp_path):
    path = tmp_path / "live.mp4"
    path.write_bytes(clip.read_bytes())
    source = open_file(path, loop=True, pace="fast")
    for _ in range(FRAMES):
        source.read()
    path.write_bytes(b"")
    with pytest.raises(CaptureError) as error:
        source.read()
    assert error.value.reason == "not_found"
    path.write_bytes(clip.read_bytes())
    source.open()
    assert source.read().image.shape == (64, 96, 3)


def test_a_name_that_is_no_utf_8_is_refused(clip, tmp_path):
    """OpenCV would end the process."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    shutil.copy(clip, name)
    settings = CameraSettings(source=str(clip)).model_copy(update={"source": name})
    with pytest.raises(CaptureError, match=r"caf\\udce9\.mp4: its name is no UTF-8; rename it") as error:
        FileSource(settings, threading.Event()).open()
    assert error.value.reason == "unreadable"


def test_a_file_below_a_folder_that_may_not_be_read_is_not_found(clip, monkeypatch):
    def forbidden(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("os.stat", forbidden)
    with pytest.raises(CaptureError) as error:
        open_file(clip)
    assert error.value.reason == "not_found"
