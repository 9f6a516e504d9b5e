"""`emotion-edge bench`: what it measures, with short turns; how fast a machine is, is judged by nobody here."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import edge.bench.command
import edge.bench.cores
import edge.bench.daemon
import edge.bench.rig
import edge.bench.rows
import edge.bench.sustained
from edge.analyser import Analyser
from edge.bench.cores import held_to, processors
from edge.bench.daemon import bench_daemon
from edge.bench.rig import CLIP, SETTINGS, STAGES, WARM, BenchError, Moment, Rig
from edge.bench.rows import BARS, MEASUREMENTS, cost_of_one, detection, differences, memory, start, work
from edge.bench.sustained import LONGEST, MOST, RATE, sustained
from edge.cli import cli
from edge.events import Box
from edge.sources.file import FileSource
from tests.parts import eventually
from tests.parts.samples import FACE, make_event

FRAMES = 270


def moment(seconds=1.0, processor=2.0, frames=100.0, **stages):
    return Moment(seconds, processor, frames, {**dict.fromkeys(STAGES, 0.0), **stages})


def figures(measure):
    """Run a measurement; returns its figures and how often it told of its progress."""
    steps = list(measure())
    return {key: value for step in steps for key, value in step.items()}, len(steps)


def test_rig_analyses_every_frame_of_the_clip_and_knows_its_stages():
    heard = []
    with Rig(2, SETTINGS.interval, heard=heard.append) as rig:
        spent = rig.measure()
        eventually(lambda: rig._frames() == FRAMES, 30, "every frame", rig._frames)
    # The warm-up ends when that is noticed, which can be some frames later.
    assert FRAMES / 2 < spent.frames <= FRAMES - WARM
    assert all(spent.stages[stage] > 0 for stage in STAGES)
    assert sum(spent.stages.values()) < spent.processor
    assert {event.type for event in heard} >= {"start", "end"}
    assert spent.rate == pytest.approx(spent.frames / spent.seconds)


def test_rig_of_several_cameras_goes_on_for_as_long_as_it_is_measured():
    with Rig(1, SETTINGS.interval, cameras=2, loop=True) as rig:
        spent = rig.measure(2.0)
    assert spent.seconds >= 2.0
    assert spent.stages["detect"] > 0


def test_rig_without_clocks_has_the_same_work_done():
    with Rig(2, SETTINGS.interval, clocked=False) as rig:
        spent = rig.measure()
        eventually(lambda: rig._frames() == FRAMES, 30, "every frame", rig._frames)
    assert set(spent.stages.values()) == {0.0}
    assert spent.frames > FRAMES / 2


def test_rig_says_that_the_analysis_fails(monkeypatch, caplog):
    def broken(*_):
        raise ValueError("broken on purpose")

    monkeypatch.setattr("edge.bench.rig.MeasuredAnalyser.find", broken)
    with Rig(1, 0.0) as rig, pytest.raises(BenchError, match="failed"):
        rig.measure()
    assert "broken on purpose" in caplog.text


def test_cost_of_one_frame_is_that_of_its_stages_and_its_faces(monkeypatch):
    now = [0.0]

    def takes(owner, name, seconds, result):
        def stage(*_):
            now[0] += seconds
            return result

        monkeypatch.setattr(owner, name, stage)

    monkeypatch.setattr(edge.bench.rows, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    takes(FileSource, "read", 0.001, SimpleNamespace(image=None))
    takes(Analyser, "find", 0.008, ["one face", "another"])
    takes(Analyser, "observe", 0.003, None)
    assert cost_of_one() == pytest.approx((0.001, 0.008 + 2 * 0.003))


def test_the_cost_of_a_frame_is_of_those_that_a_run_measures():
    assert WARM + edge.bench.rows.FRAMES == FRAMES


def test_work_compares_in_turns_on_so_many_cores(monkeypatch):
    before = os.sched_getaffinity(0)
    rates = {(2, 0): 150.0, (1, 0): 125.0, (2, 2): 180.0, (1, 1): 100.0}
    cores = [0]

    @contextlib.contextmanager
    def held(count):
        cores.append(count)
        yield
        cores.pop()

    def play(workers, *, clocked=True):  # clocks cost time, so what is compared has none
        return moment(detect=1.5, classify=0.4) if clocked else moment(frames=rates[workers, cores[-1]])

    monkeypatch.setattr(edge.bench.rows, "processors", lambda: [0, 1])
    monkeypatch.setattr(edge.bench.rows, "held_to", held)
    monkeypatch.setattr(edge.bench.rows, "cost_of_one", lambda: (0.002, 0.008))
    monkeypatch.setattr(edge.bench.rows, "_play", play)
    expected = {
        "limit_ratio": 0.9,
        "two_workers_ratio": 1.2,
        "two_workers_most": 1.6,
        "two_cores_ratio": 1.8,
        "overhead_share": 0.05,
    }
    found, steps = figures(work)
    assert found == pytest.approx(expected)
    assert steps == {title: count for title, _, count in MEASUREMENTS}["work of two workers"]
    assert os.sched_getaffinity(0) == before
    rates[2, 2] = 210.0
    with pytest.raises(BenchError, match="cannot be"):
        figures(work)
    # Where no thread can be held to a core, the figures by cores are absent.
    monkeypatch.setattr(edge.bench.rows, "processors", lambda: [0])
    found, _ = figures(work)
    assert found.keys() == expected.keys() - {"two_workers_most", "two_cores_ratio"}
    assert found["limit_ratio"] == pytest.approx(0.75)


def test_threads_begun_on_one_core_stay_there_and_cores_are_given_back():
    before = os.sched_getaffinity(0)
    found = []
    with held_to(1):
        thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert found == [{processors()[0]}]
    assert os.sched_getaffinity(0) == before


def test_of_a_core_with_two_processors_one_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 7})
    monkeypatch.setattr(edge.bench.cores, "PROCESSORS", tmp_path)
    for processor, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")):
        path = tmp_path / f"cpu{processor}" / "topology" / "thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(f"{siblings}\n")
    assert processors() == [0, 1, 7]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processors() == []


def test_detection_as_shipped_is_cheaper_and_tells_the_same(monkeypatch):
    monkeypatch.setattr(edge.bench.rows, "DETECTION_TURNS", 1)
    found, _ = figures(detection)
    assert found["detection_ratio"] > 1.3
    monkeypatch.setattr(edge.bench.rows, "differences", lambda *_: 3)
    monkeypatch.setattr(edge.bench.rows, "_play", lambda *_: moment(detect=1.0))
    with pytest.raises(BenchError, match="told 3"):
        figures(detection)


def test_events_are_the_same_only_at_the_same_time_and_place():
    begun = make_event(time=10.0)
    ended = make_event(type="end", time=12.0)
    assert differences([begun, ended], [replace(ended, time=12.4), replace(begun, time=9.6)]) == 0
    assert differences([begun], [replace(begun, time=10.6)]) == 2
    elsewhere = replace(FACE, box=Box(0.6, 0.25, 0.2, 0.3))
    assert differences([begun], [replace(begun, face=elsewhere)]) == 2
    assert differences([begun], [begun, begun]) == 1
    assert differences([begun], [replace(begun, type="end")]) == 2
    assert differences([begun, make_event(type="change")], [begun]) == 0


def test_daemon_plays_and_is_gone_afterwards():
    with bench_daemon(CLIP, 2) as daemon:
        assert 0 < daemon.first_frame() < 60
        before = daemon.analysed()
        eventually(lambda: daemon.analysed() > before, 60, "further frames")
        assert 50e6 < (daemon.memory() or 0) < 1e9
        folder = daemon._log.parent
        assert folder.is_dir()
    assert daemon._process.poll() == 0
    assert not folder.exists()


def test_daemon_that_answers_no_more_is_no_daemon_that_did_nothing():
    with bench_daemon(CLIP, 1) as daemon:
        daemon.first_frame()
        daemon._process.kill()
        daemon._process.wait()
        with pytest.raises(BenchError, match="does not answer"):
            daemon.analysed()


def test_daemon_that_cannot_start_says_why(tmp_path):
    with bench_daemon(tmp_path / "none.mp4", 1) as daemon, pytest.raises(BenchError, match="no such file"):
        daemon.first_frame()


def test_memory_and_start_are_read_off_daemons(monkeypatch):
    monkeypatch.setattr(edge.bench.rows, "MEMORY_SECONDS", 2.0)
    monkeypatch.setattr(edge.bench.rows, "STARTS", 1)
    found = {**figures(memory)[0], **figures(start)[0]}
    assert found.keys() == {"memory_one_mb", "memory_four_mb", "start_seconds"}
    assert 50 < found["memory_one_mb"] < found["memory_four_mb"]


def test_fewer_cameras_are_tried_until_all_frames_are_analysed(monkeypatch):
    tried = []

    def trial(cameras):
        tried.append(cameras)
        return min(RATE, 62 / cameras)

    monkeypatch.setattr(Rig, "measure", lambda *_: moment(frames=6.5 * RATE, processor=2.0, detect=1.0, capture=0.5))
    monkeypatch.setattr(edge.bench.sustained, "_trial", trial)
    *_, answer = sustained()
    assert tried == [6, 4]
    assert (answer.cameras, answer.rate) == (4, RATE)
    assert str(answer) == (
        "this machine sustains 4 cameras of 1280×720 at 15 frames a second; looking at whole pictures takes most, "
        "50 % of the processor time"
    )
    monkeypatch.setattr(edge.bench.sustained, "_trial", lambda cameras: 7.25 / cameras)
    *_, answer = sustained()
    assert str(answer).startswith("this machine sustains 1 camera of 1280×720 at 7.25 frames a second")


class Slow:
    """A clock that goes on by waits alone, each as long as it may be; a daemon and its answers are as slow."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    process_time = thread_time = perf_counter

    def sleep(self, seconds):
        self.now += seconds

    def poll(self):
        """Run, as a process."""

    terminate = kill = poll

    def wait(self, timeout=0.0):
        """End, as a process, not by itself."""
        self.now += timeout
        if timeout:
            raise subprocess.TimeoutExpired("daemon", timeout)

    def open(self, _address, timeout):
        """Answer what is asked over HTTP: frames come at the last moment."""
        self.now += timeout
        if self.now < edge.bench.daemon.START_TIMEOUT:
            raise TimeoutError
        return io.BytesIO(b'emotion_edge_frames_analysed_total{camera="1"} 1')


@pytest.fixture
def slow(monkeypatch):
    clock = Slow()
    for module in (edge.bench.daemon, edge.bench.rig, edge.bench.sustained):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(edge.bench.daemon, "DIRECTLY", clock)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: clock)
    return clock


def test_the_line_is_there_within_four_minutes_however_slow_everything_is(slow, monkeypatch):
    monkeypatch.setattr(Rig, "_frames", lambda _: 0.0)
    Rig(1, 0.0).measure(edge.bench.sustained.ESTIMATE)
    estimate = slow.now + MOST * edge.bench.rig.STOP_READING + edge.bench.rig.STOP_WORKERS
    slow.now = 0.0
    edge.bench.sustained._trial(1)
    assert slow.now > edge.bench.daemon.START_TIMEOUT + edge.bench.daemon.STOP_TIMEOUT
    assert max(estimate, LONGEST) + slow.now <= 4 * 60


def test_no_trial_begins_when_it_is_too_late_for_one(slow, monkeypatch):
    began = []

    def trial(_cameras):
        began.append(slow.now)
        slow.now += LONGEST / 5 + 1
        return 0.97 * RATE

    monkeypatch.setattr(Rig, "measure", lambda *_: moment(frames=MOST * RATE, processor=2.0, detect=1.0))
    monkeypatch.setattr(edge.bench.sustained, "_trial", trial)
    *_, answer = sustained()
    assert len(began) == 5
    assert max(began) < LONGEST
    assert (answer.cameras, answer.rate) == (MOST - 4, 0.97 * RATE), "what the last trial showed"


def test_command_prints_one_line_and_rows_not_run_are_absent(monkeypatch):
    monkeypatch.setattr(edge.bench.sustained, "ESTIMATE", 0.5)
    monkeypatch.setattr(edge.bench.sustained, "SETTLE", 0.2)
    monkeypatch.setattr(edge.bench.sustained, "TRIAL", 1.0)
    monkeypatch.setattr(edge.bench.sustained, "MOST", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    plain = CliRunner().invoke(cli, ["bench"])
    assert plain.exit_code == 0
    (said,) = plain.stdout.splitlines()
    assert said.startswith("this machine sustains 1 camera or more of 1280×720 at ")
    assert plain.stderr == ""
    document = json.loads(CliRunner().invoke(cli, ["bench", "--json"]).stdout)
    assert document.keys() == {"cameras", "frames_per_second", "limited_by"}


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_on_a_terminal_and_nowhere_else(monkeypatch, terminal):
    said = io.StringIO()
    monkeypatch.setattr(said, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", said)
    assert list(edge.bench.command._steps("cameras", lambda: iter([None, "answer"]), 4)) == [None, "answer"]
    shown = [f"{share}%" for share in (0, 25, 50, 100)]
    assert [share for share in shown if share in said.getvalue()] == (shown if terminal else [])


def test_full_prints_every_row_with_its_bar(monkeypatch):
    values = dict.fromkeys(BARS, 1.7654321)

    def measured():
        yield {}
        yield values

    monkeypatch.setattr(edge.bench.command, "MEASUREMENTS", (("all", measured, 2),))
    answer = edge.bench.sustained.Sustained(2, 15.0, "rest", 0.5)
    monkeypatch.setattr(edge.bench.command, "sustained", lambda: iter([None, answer]))
    lines = CliRunner().invoke(cli, ["bench", "--full"]).stdout.splitlines()
    assert len(lines) == 1 + len(BARS)
    assert "held   two_workers_ratio 1.765 (bar ≥ 1.7): two workers against one" in lines
    assert "       two_workers_most 1.765 (no bar): the most that this could be" in "\n".join(lines)
    assert "SHORT  overhead_share 1.765 (bar ≤ 0.1)" in "\n".join(lines)
    document = json.loads(CliRunner().invoke(cli, ["bench", "--full", "--json"]).stdout)
    assert {key: document[key] for key in BARS} == dict.fromkeys(BARS, 1.7654)


def test_full_prints_the_other_rows_if_one_cannot_be_measured(monkeypatch):
    def broken():
        yield {"limit_ratio": 0.9}
        raise BenchError("the machine was busy")

    def whole():
        yield {"start_seconds": 1.0}

    monkeypatch.setattr(edge.bench.command, "MEASUREMENTS", (("some", broken, 2), ("others", whole, 1)))
    answer = edge.bench.sustained.Sustained(2, 15.0, "rest", 0.5)
    monkeypatch.setattr(edge.bench.command, "sustained", lambda: iter([answer]))
    said = CliRunner().invoke(cli, ["bench", "--full"])
    assert said.exit_code == 1
    assert [each.split()[1] for each in said.stdout.splitlines()[1:]] == ["limit_ratio", "start_seconds"]
    assert said.stderr == "FAILED some: the machine was busy\n"
    said = CliRunner().invoke(cli, ["bench", "--full", "--json"])
    assert said.exit_code == 1
    assert json.loads(said.stdout)["start_seconds"] == 1.0


def test_bars_are_held_on_the_right_side():
    assert BARS["limit_ratio"].holds(0.9)
    assert not BARS["limit_ratio"].holds(0.8)
    assert BARS["start_seconds"].holds(0.8)
    assert not BARS["start_seconds"].holds(1.6)
