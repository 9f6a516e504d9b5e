"""Webcams; OpenCV's access to the device is a stand-in, for there is none."""

from typing import ClassVar

import cv2
import numpy as np
import pytest

import edge.sources.webcam
from edge.frames import CaptureError
from edge.settings import CameraSettings
from edge.sources.webcam import WebcamSource


class Device:
    """Stands in for `cv2.VideoCapture`."""

    asked: ClassVar[list[tuple[object, int]]] = []
    there = True

    def __init__(self, device, backend):
        self.asked.append((device, backend))
        self.frames = [np.full((4, 4, 3), 7, np.uint8)]
        self.released = False

    def isOpened(self):  # noqa: N802
        return self.there

    def grab(self):
        return bool(self.frames)

    def retrieve(self):
        return True, self.frames.pop()

    def release(self):
        self.released = True


@pytest.fixture
def device(monkeypatch):
    """Record how devices are opened."""
    monkeypatch.setattr(Device, "asked", [])
    monkeypatch.setattr(edge.sources.webcam.cv2, "VideoCapture", Device)
    return Device


@pytest.mark.parametrize(
    ("platform", "backend"),
    [("linux", cv2.CAP_V4L2), ("darwin", cv2.CAP_AVFOUNDATION), ("win32", cv2.CAP_DSHOW), ("sunos", cv2.CAP_ANY)],
)
def test_index_with_the_backend_of_the_platform(device, monkeypatch, platform, backend):
    monkeypatch.setattr(edge.sources.webcam.sys, "platform", platform)
    WebcamSource(CameraSettings(source=2)).open(8)
    assert device.asked == [(2, backend)]


def test_lasting_name_leads_to_the_device_of_the_moment(device, tmp_path):
    (tmp_path / "video3").touch()
    link = tmp_path / "usb-camera"
    link.symlink_to(tmp_path / "video3")
    source = WebcamSource(CameraSettings(source="/dev/video0").model_copy(update={"source": str(link)}))
    source.open(8)
    link.unlink()
    (tmp_path / "video5").touch()
    link.symlink_to(tmp_path / "video5")
    source.open(8)
    assert [asked[0] for asked in device.asked] == [str(tmp_path / "video3"), str(tmp_path / "video5")]


@pytest.mark.usefixtures("device")
def test_frames_then_unplugged():
    source = WebcamSource(CameraSettings(source=0))
    source.open(8)
    opened = source._capture
    frame = source.read()
    assert (frame.image.mean(), frame.time) == (7, frame.captured)
    with pytest.raises(CaptureError, match="still plugged in") as caught:
        source.read()
    assert caught.value.reason == "unplugged"
    source.close()
    assert opened.released


@pytest.mark.usefixtures("device")
def test_no_picture_is_made_of_an_unwanted_frame(monkeypatch):
    monkeypatch.setattr(Device, "retrieve", None)
    source = WebcamSource(CameraSettings(source=0))
    source.open(8)
    frame = source.read(lambda _time: False)
    assert frame.refused
    assert frame.image.size == 0


@pytest.mark.parametrize(("source", "says"), [("/dev/no-such-camera", "no such device"), ("231", "cannot be opened")])
def test_webcam_that_is_not_there_is_unplugged(source, says):
    webcam = WebcamSource(CameraSettings(source=source))
    with pytest.raises(CaptureError, match=says) as caught:
        webcam.open(8)
    assert caught.value.reason == "unplugged"
    assert webcam.explain(caught.value) is caught.value
