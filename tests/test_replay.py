"""A recording gives the same bytes each time, however many workers take part and however they hurry."""

import errno
import json
import random
import re
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from edge.analyser import Analyser
from edge.cli import cli, main
from edge.demo import CLIP
from edge.events import from_rfc3339
from edge.replay import ReplayError, replay, replay_settings
from edge.schedule import WHOLE
from edge.sources.file import FileSource
from tests.parts.schema import validate_event
from tests.parts.settings import settings_for
from tests.scenes import clear_portraits, compose


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Three faces that come and go."""
    path = tmp_path_factory.mktemp("replay") / "clip.mp4"
    compose(clear_portraits(3, 3), path, size=(640, 480), side=200, gap=0.4, seconds=1.2)
    return path


@pytest.fixture
def hurried(monkeypatch):
    """Workers take longer or shorter by chance."""
    rng, analyse = random.Random(), Analyser.__call__

    def now_and_then(self, image, how=WHOLE):
        time.sleep(rng.choice([0, 0, 0.005, 0.03]))
        return analyse(self, image, how)

    monkeypatch.setattr(Analyser, "__call__", now_and_then)


def run(*arguments):
    result = CliRunner().invoke(cli, ["replay", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_damaged_file_is_played_and_no_success(capsys, monkeypatch, tmp_path):
    content = bytearray(CLIP.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = random.Random(5).randbytes(3000)
    (tmp_path / "hurt.mp4").write_bytes(content)
    line = complaint(capsys, monkeypatch, tmp_path / "hurt.mp4")
    assert re.search(r"hurt\.mp4: \d+ of its frames cannot be decoded; .*the events are those of the others", line)


def test_of_a_file_cut_off_the_events_are_told_with_a_warning(tmp_path):
    content = CLIP.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    result = CliRunner().invoke(cli, ["replay", str(tmp_path / "cut.mp4")])
    assert result.exit_code == 0
    assert {event["type"] for event in events(result.stdout)} == {"start", "end"}
    assert re.fullmatch(
        r".*cut\.mp4: played to its end, after \d+ frames of \d+ that .*: is it whole\?\n", result.stderr
    )
    assert CliRunner().invoke(cli, ["replay", str(CLIP)]).stderr == ""


@pytest.mark.usefixtures("hurried")
def test_the_same_bytes_with_any_number_of_workers(clip):
    logs = {run(clip, "--workers", workers) for workers in (1, 2, 2, 4)}
    assert len(logs) == 1
    said = events(logs.pop())
    for event in said:
        validate_event(event)
    kinds = [event["type"] for event in said]
    assert (kinds.count("start"), kinds.count("end")) == (3, 3)
    assert {event["epoch"] for event in said} == {0}
    assert [event["seq"] for event in said] == list(range(1, len(said) + 1))
    # In view after 0.4 s, found within half a second, reported half a second later.
    assert "1970-01-01T00:00:00.900Z" <= said[0]["time"] <= "1970-01-01T00:00:01.500Z"


@pytest.mark.parametrize("start", ["2026-02-03T04:05:06Z", "2026-02-03T05:05:06+01:00", "2026-02-03 04:05:06"])
def test_times_count_from_the_start(clip, start):
    plain, moved = events(run(clip)), events(run(clip, "--start", start))
    times = [event["time"].replace("1970-01-01T00:00:", "2026-02-03T04:05:") for event in plain]
    assert [from_rfc3339(event["time"]) for event in moved] == [from_rfc3339(time) + 6 for time in times]
    assert [event["emotion"] for event in moved] == [event["emotion"] for event in plain]


def test_settings_hold(clip, tmp_path):
    """Of a camera that is another source: its masks hold for the file, and so do node and tracking."""
    everywhere = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    config = settings_for(
        None, door={"source": "rtsp://door/1", "username": "me", "masks": everywhere}, hall={"source": 0}
    )
    config["tracking"] = {"appear": 0.8}
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(config))
    assert run(clip, "--config", path, "--camera", "door") == ""
    said = events(run(clip, "--config", path, "--camera", "hall"))
    assert {(event["node"], event["camera"]) for event in said} == {("test", "hall")}
    assert said[0]["time"] > "1970-01-01T00:00:01.200Z"
    assert {event["camera"] for event in events(run(clip, "--config", path))} == {"replay"}


@pytest.mark.parametrize("name", ["~clip.mp4", "7", "rtsp:clip"])
def test_a_file_is_a_file_whatever_its_name(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(Path(clip).read_bytes())
    assert run(name) == run(clip)


def complaint(capsys, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["emotion-edge", "replay", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err.strip()


def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path):
    text, config = tmp_path / "text.mp4", tmp_path / "edge.yaml"
    text.write_text("no video")
    tab = tmp_path / "a\tb.mp4"
    tab.write_text("no video")
    config.write_text(yaml.safe_dump(settings_for(None, door={"source": 0})))
    for arguments, said in (
        ([tmp_path / "none.mp4"], "none.mp4: no such file"),
        ([tmp_path], f"{tmp_path}: is no file; name a video file"),
        (["rtsp://camera/x"], "that is an address; replay plays files, emotion-edge run follows streams"),
        ([text], "text.mp4: not a video"),
        ([tab], "a source has no control characters such as tabs or line breaks; give the file another name"),
        ([CLIP, "--camera", "door"], "--config"),
        ([CLIP, "--config", config, "--camera", "hall"], "no camera hall; there are door"),
    ):
        line = complaint(capsys, monkeypatch, *arguments)
        assert said in line
        assert "\n" not in line
    assert "write 2026-01-31" in complaint(capsys, monkeypatch, CLIP, "--start", "soon")
    for start in ("1969-12-31", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"):
        assert "not from 1970 on" in complaint(capsys, monkeypatch, CLIP, "--start", start)


def test_frames_that_could_not_be_analysed_are_no_success(capsys, monkeypatch, clip):
    def broken(*_):
        raise RuntimeError("broken interpreter")

    monkeypatch.setattr(Analyser, "__call__", broken)
    assert "frames failed" in complaint(capsys, monkeypatch, clip)


def test_no_frame_is_lost_at_the_end_however_long_the_last_ones_take(clip, monkeypatch):
    counts, analyse = [], Analyser.__call__

    def counted(self, image, how=WHOLE):
        time.sleep(0.04 if len(counts) == 2 else 0)
        counts[-1] += 1
        return analyse(self, image, how)

    monkeypatch.setattr(Analyser, "__call__", counted)
    monkeypatch.setattr("edge.camera.TICKET_TIMEOUT", 0.15)  # less than those that wait take together
    for _ in range(2):
        counts.append(0)
        run(clip, "--workers", 1)
    assert counts[1] == counts[0]


def test_a_file_that_is_gone_when_it_is_opened_is_no_hang(clip, tmp_path):
    file = tmp_path / "gone.mp4"
    file.write_bytes(clip.read_bytes())
    settings, name = replay_settings(file, None, None, None)
    file.unlink()
    with pytest.raises(ReplayError, match=r"gone\.mp4: "):
        replay(settings, name, 0, lambda _: None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_no_hang(clip, monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(FileSource, "read", broken)
    settings, name = replay_settings(clip, None, None, None)
    with pytest.raises(ReplayError, match="the thread that reads it died"):
        replay(settings, name, 0, lambda _: None)


@pytest.mark.usefixtures("hurried")
def test_an_output_that_cannot_be_written_ends_it(clip):
    """The function runs in the camera's thread, where an error of it would count as one of the analysis."""
    tried = []

    def full(event):
        tried.append(event)
        raise OSError(errno.ENOSPC, "No space left on device")

    settings, name = replay_settings(clip, None, None, None)
    with pytest.raises(OSError, match="No space left"):
        replay(settings, name, 0, full)
    assert len(tried) == 1
