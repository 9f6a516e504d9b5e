"""What commands do, with cameras played by the test."""

import json
import os

import pytest

from edge.commands import CommandError
from edge.control import Control
from edge.outbox import Outbox
from edge.tracking import Rules
from tests.parts.schema import validate


class FakeCamera:
    def __init__(self, name):
        self.name, self.paused, self.rules = name, False, Rules()

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def change_rules(self, rules):
        self.rules = rules


@pytest.fixture
def make(tmp_path):
    """Make a control over cameras door and desk; its file is the same each time."""

    def build(reload=lambda: "", states=None, folder=tmp_path):
        cameras = [FakeCamera("door"), FakeCamera("desk")]
        file = folder / "outbox.db.paused"
        return Control(cameras, 0.3, reload, lambda: states or {}, Outbox(), file), {c.name: c for c in cameras}

    return build


def paused(cameras):
    return {name for name, camera in cameras.items() if camera.paused}


def test_pause_and_resume_one_camera_or_all(make):
    control, cameras = make()
    control.handlers["pause"]("door", {})
    assert paused(cameras) == {"door"}
    assert not control.all_paused()
    control.handlers["pause"](None, {})
    assert control.all_paused()
    control.handlers["resume"]("desk", {})
    assert paused(cameras) == {"door"}
    control.handlers["resume"](None, {})
    assert paused(cameras) == set()


def test_a_pause_outlives_a_restart_if_a_command_can_end_it(make, caplog):
    make()[0].handlers["pause"]("door", {})
    control, cameras = make()
    control.restore(may_resume=True)
    assert paused(cameras) == {"door"}
    control, cameras = make()
    control.restore(may_resume=False)
    assert paused(cameras) == set()
    assert "camera door: was paused, but commands.allow has no resume now" in caplog.text
    control, cameras = make()
    control.restore(may_resume=True)
    assert paused(cameras) == set(), "it is over for good"


def test_a_camera_in_the_place_of_a_paused_one_is_paused_and_one_that_is_gone_is_forgotten(make):
    control, cameras = make()
    control.handlers["pause"](None, {})
    fresh, new = FakeCamera("door"), FakeCamera("hall")
    control.change_cameras([fresh, new])
    assert (fresh.paused, new.paused) == (True, False)
    control.handlers["resume"]("door", {})
    assert (fresh.paused, cameras["door"].paused) == (False, True), "commands are for the new one"
    control, cameras = make()
    control.restore(may_resume=True)
    assert paused(cameras) == set(), "desk was paused when it was removed"


def test_a_pause_outlives_a_new_start_in_the_process_with_another_file(make, tmp_path):
    control, _ = make()
    control.handlers["pause"]("door", {})
    successor, cameras = make(folder=tmp_path / "elsewhere")
    successor.inherit(control.paused())
    successor.restore(may_resume=True)
    assert paused(cameras) == {"door"}


def test_a_resume_outlives_a_restart_too(make):
    control, _ = make()
    control.handlers["pause"](None, {})
    control.handlers["resume"](None, {})
    control, cameras = make()
    control.restore(may_resume=True)
    assert paused(cameras) == set()


@pytest.mark.parametrize("content", ["", "{", "7", '{"door": 1}', '[["door"], {}]', '["elsewhere"]'])
def test_a_damaged_file_pauses_nothing_and_stops_nothing(make, tmp_path, content):
    (tmp_path / "outbox.db.paused").write_text(content)
    control, cameras = make()
    control.restore(may_resume=True)
    assert paused(cameras) == set()
    control.handlers["pause"]("door", {})
    assert json.loads((tmp_path / "outbox.db.paused").read_text()) == ["door"]


def test_the_file_is_written_only_when_something_changes(make, tmp_path):
    control, _ = make()
    control.handlers["resume"](None, {})
    assert not list(tmp_path.iterdir())
    control.handlers["pause"]("door", {})
    before = (tmp_path / "outbox.db.paused").stat().st_ino
    control.handlers["pause"]("door", {})
    assert (tmp_path / "outbox.db.paused").stat().st_ino == before


def test_a_pause_that_cannot_be_kept_is_one_all_the_same_and_its_answer_says_so(make, tmp_path):
    control, cameras = make(folder=tmp_path / "nowhere")
    answer = control.handlers["pause"]("door", {})
    assert answer["warning"].startswith("in force, but it will not outlive a restart of the daemon: No such file")
    validate("response", {"id": "1", "ok": True, "error": None, **answer})
    assert paused(cameras) == {"door"}


def test_a_pause_outlives_a_power_loss(make, tmp_path, monkeypatch):
    """The name of the file is on the disk only once its folder is."""
    synced = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or sync(fd))
    make()[0].handlers["pause"]("door", {})
    assert synced == [str(tmp_path / "outbox.db.paused.new"), str(tmp_path)]


def test_thresholds_of_one_camera_or_all(make):
    control, cameras = make()
    control.handlers["threshold"]("door", {"detector.threshold": 0.6})
    control.handlers["threshold"](None, {"tracking.enter": 0.55, "tracking.exit": 0.45})
    assert cameras["door"].rules == Rules(begin=0.6, enter=0.55, exit=0.45)
    assert cameras["desk"].rules == Rules(enter=0.55, exit=0.45)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "must be some of detector.threshold"),
        ({"detector.keep": 0.4}, "must be some of detector.threshold"),
        ({"tracking.enter": 0}, "between 0 and 1"),
        ({"tracking.enter": 1.0}, "between 0 and 1"),
        ({"tracking.enter": float("nan")}, "between 0 and 1"),
        ({"tracking.enter": "0.5"}, "between 0 and 1"),
        ({"tracking.enter": True}, "between 0 and 1"),
        ({"detector.threshold": 0.29}, "not be below detector.keep, 0.3"),
        ({"tracking.enter": 0.6, "tracking.exit": 2}, "between 0 and 1"),
        ({"tracking.enter": 0.39}, "camera door: tracking.exit, 0.4, must not be above tracking.enter, 0.39"),
        ({"tracking.exit": 0.7, "tracking.enter": 0.6}, "must not be above tracking.enter"),
    ],
)
def test_thresholds_that_are_none_change_nothing(make, arguments, says):
    control, cameras = make()
    with pytest.raises(CommandError, match=says):
        control.handlers["threshold"](None, arguments)
    assert cameras["door"].rules == Rules()


@pytest.mark.parametrize("command", ["pause", "resume", "threshold", "snapshot"])
def test_a_camera_that_is_not_there(make, command):
    arguments = {"tracking.enter": 0.6} if command == "threshold" else {}
    with pytest.raises(CommandError, match="the node has no such camera"):
        make()[0].handlers[command]("gone", arguments)


@pytest.mark.parametrize("command", ["pause", "resume", "reload", "snapshot"])
def test_arguments_that_nobody_asked_for(make, command):
    with pytest.raises(CommandError, match="there are none for this command"):
        make()[0].handlers[command](None, {"camera": "door"})


def test_reload_says_why_a_model_cannot_be_used(make):
    assert make()[0].handlers["reload"](None, {}) == {}
    with pytest.raises(CommandError, match=r"the one before goes on: model\.tflite: no model"):
        make(reload=lambda: "model.tflite: no model")[0].handlers["reload"](None, {})
    with pytest.raises(CommandError, match="to the node's topic"):
        make()[0].handlers["reload"]("door", {})


def test_snapshot_tells_what_is_published_and_nothing_else(make):
    states = {"status": b'{"state":"online"}', "door/status": b'{"state":"online"}', "desk/emotion": b""}
    control, cameras = make(states=states)
    control.handlers["threshold"]("door", {"tracking.enter": 0.7})
    answer = control.handlers["snapshot"](None, {})
    validate("response", {"id": "1", "ok": True, "error": None, **answer})
    assert answer["state"]["states"] == {"status": {"state": "online"}, "door/status": {"state": "online"}}
    assert answer["state"]["thresholds"]["door"]["tracking.enter"] == 0.7
    assert set(answer["state"]["thresholds"]) == set(cameras)
    assert set(control.handlers["snapshot"]("door", {})["state"]["states"]) == {"door/status"}
