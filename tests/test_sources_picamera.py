"""The CSI camera: the real child script over a stand-in for picamera2, and children that misbehave."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from edge.capture import Capture
from edge.frames import CaptureError, Slot
from edge.settings import CameraSettings
from edge.sources import picamera
from edge.sources.picamera import CHILD, PicameraSource
from tests.parts import eventually

#: Gives frames of growing brightness, as picamera2 does; `BEHAVE` makes it do otherwise.
STAND_IN = """
import os, time

class Array(bytes):
    shape = (48, 64, 3)
    def tobytes(self):
        return bytes(self)

class Picamera2:
    def __init__(self, index):
        os.write(1, b"libcamera says hello")
        if index > 0:
            raise IndexError("list index out of range")
        self.number = 0
    def create_video_configuration(self, main, controls):
        assert main == {"size": (1280, 720), "format": "RGB888"}, main
        assert controls == {"FrameRate": 15}, controls
    def configure(self, configuration):
        pass
    def start(self):
        pass
    def capture_array(self, name):
        time.sleep(0.02)
        self.number += 1
        if BEHAVE == "raise" and self.number > 3:
            raise RuntimeError("camera frontend has timed out")
        if BEHAVE == "hang" and self.number > 3:
            time.sleep(600)
        if BEHAVE == "die" and self.number > 3:
            os.kill(os.getpid(), 9)
        return Array(bytes([self.number % 256]) * (48 * 64 * 3))
"""


@pytest.fixture
def command(tmp_path):
    """Return the command of a child whose picamera2 behaves so."""

    def make(behave=""):
        (tmp_path / "picamera2.py").write_text(f"BEHAVE = {behave!r}\n{STAND_IN}")
        path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
        start = f"import runpy; runpy.run_path({str(CHILD)!r}, None, '__main__')"
        return [sys.executable, "-c", f"{path}; {start}"]

    return make


def opened(command, source="picamera", patience=20.0):
    camera = PicameraSource(CameraSettings(source=source), command)
    camera.open(patience)
    return closing(camera)


def fails(camera):
    try:
        for _ in range(100):
            camera.read()
    except CaptureError as error:
        return error
    raise AssertionError("a hundred frames")


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_frames_come_as_they_were_taken(command):
    with opened(command()) as camera:
        frames = [camera.read() for _ in range(5)]
    assert [int(frame.image.mean()) for frame in frames] == [1, 2, 3, 4, 5]
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.flags.writeable


def test_closing_ends_the_child(command):
    with opened(command("hang")) as camera:
        camera.read()
        pid = camera._child.pid
    assert gone(pid)


@pytest.mark.parametrize(
    ("behave", "reason", "says"),
    [("raise", "ended", "frontend has timed out"), ("die", "ended", "exit code -9")],
)
def test_camera_that_is_lost_says_why(command, behave, reason, says):
    with opened(command(behave)) as camera:
        error = fails(camera)
    assert (error.reason, says in str(error)) == (reason, True), str(error)


def test_camera_that_stalls_is_timeout(command):
    with opened(command("hang"), patience=20) as camera:
        for _ in range(3):
            camera.read()
        camera._patience = 0.3
        assert fails(camera).reason == "timeout"


def test_no_such_camera_is_unplugged(command):
    with opened(command(), "picamera:1") as camera:
        error = fails(camera)
    assert (error.reason, "check its cable" in str(error)) == ("unplugged", True)


def test_python_without_picamera2_says_what_to_install():
    with opened([sys.executable, "-I", str(CHILD)]) as camera:
        error = fails(camera)
    assert (error.reason, "python3-picamera2" in str(error)) == ("unreadable", True)


def test_variables_that_lead_to_our_packages_do_not_reach_the_child(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/where/our/numpy/is")
    leads = "any(name.startswith('PYTHON') for name in os.environ)"
    with opened([sys.executable, "-c", f"import os; os._exit({leads})"]) as camera:
        assert "exit code 0" in str(fails(camera))


def test_missing_python_says_so():
    with pytest.raises(CaptureError, match="No such file"):
        opened(["/no/such/python"])


def test_child_that_writes_something_else_is_unreadable():
    with opened([sys.executable, "-c", "print('hello, this is no frame')"]) as camera:
        assert fails(camera).reason == "unreadable"


def test_no_orphan_when_the_daemon_is_killed(command):
    """The child hangs inside the camera, so writing does not tell it."""
    script = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from edge.settings import CameraSettings
        from edge.sources.picamera import PicameraSource
        camera = PicameraSource(CameraSettings(source="picamera"), {command("hang")!r})
        camera.open(20)
        for _ in range(3):
            camera.read()
        print(camera._child.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    eventually(lambda: gone(pid), 10, "end of the child")


def test_dead_child_is_started_again(command):
    said, children = [], set()

    class Ears:
        def wanted(self, _time):
            return True

        def captured(self, frame):
            children.add(source._child.pid)
            return frame

        def reopened(self, *_):
            said.append("reopened")

        def online(self):
            said.append("online")

        def offline(self, reason, _message):
            said.append(reason)

    settings = CameraSettings(source="picamera")
    source = PicameraSource(settings, command())
    capture = Capture("csi", settings, Slot(False, lambda: None, lambda: None), Ears(), lambda *_: source)
    capture.start()
    eventually(lambda: children, 20, "frame")
    os.kill(*children, signal.SIGKILL)
    eventually(lambda: len(children) == 2, 20, "frame of another child")
    capture.stop(10)
    assert said == ["online", "ended", "online"]
    assert all(gone(pid) for pid in children)


def test_python_is_that_of_the_system():
    assert picamera.PYTHON == "/usr/bin/python3"
    assert PicameraSource(CameraSettings(source="picamera"))._command[:2] == [picamera.PYTHON, str(CHILD)]
