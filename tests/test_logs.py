"""What reaches stderr: one line a cause, for people, for journald and for programs, and not too many."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import logs
from edge.logs import ALL, CAUSE, WINDOW, JsonFormatter, LimitedHandler, TextFormatter, configure
from tests.conftest import Parts
from tests.parts import eventually
from tests.parts.daemon import ROOT, Daemon
from tests.parts.settings import settings_for


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def _root() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level, loud = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, loud
    root.setLevel(level)


def record(message: str, *args: object, level: int = logging.WARNING, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord("edge.camera", level, "camera.py", line, message, args, None)


def failed() -> logging.LogRecord:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        return logging.LogRecord("edge", logging.ERROR, "a.py", 1, "analysis failed", (), sys.exc_info())


def limited() -> tuple[LimitedHandler, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    handler = LimitedHandler(stream, clock)
    handler.setFormatter(TextFormatter())
    return handler, stream, clock


def test_text_is_one_line_with_the_place_of_an_exception() -> None:
    line = TextFormatter().format(failed())
    assert line.startswith("ERROR analysis failed: ValueError: two lines (test_logs.py:")
    assert "\n" not in line


@pytest.mark.parametrize(("level", "prefix"), [(logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>")])
def test_journal_gets_priorities(level: int, prefix: str) -> None:
    assert TextFormatter("priority").format(record("door: %s", "gone", level=level)) == f"{prefix}door: gone"


def test_json_holds_everything() -> None:
    fields = json.loads(JsonFormatter().format(failed()))
    assert fields["level"] == "error"
    assert fields["message"] == "analysis failed"
    assert "Traceback" in fields["exception"]
    assert fields["time"].endswith("Z")
    assert set(fields) == {"time", "level", "logger", "thread", "message", "exception"}


@given(st.text())
def test_no_text_becomes_a_second_line(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        assert len(formatter.format(record("camera says %s", text)).splitlines()) == 1


def test_cause_that_repeats_is_counted_instead() -> None:
    handler, stream, clock = limited()
    for _ in range(100):
        handler.emit(record("camera %s: fell behind", "door"))
    handler.emit(record("camera %s: fell behind", "desk"))
    lines = stream.getvalue().splitlines()
    assert lines == ["WARNING camera door: fell behind"] * CAUSE + ["WARNING camera desk: fell behind"]
    clock.now += WINDOW
    handler.emit(record("camera %s: fell behind", "door"))
    told, last = stream.getvalue().splitlines()[len(lines) :]
    assert re.fullmatch(rf"WARNING {100 - CAUSE} more lines left out, the last at \S+Z: camera door: fell behind", told)
    assert last == "WARNING camera door: fell behind"


def test_what_was_left_out_is_said_though_nothing_more_happens() -> None:
    asked: list[tuple[float, Callable[[], None]]] = []
    stream, clock = io.StringIO(), Clock()
    handler = LimitedHandler(stream, clock, lambda seconds, act: asked.append((seconds, act)))
    handler.setFormatter(TextFormatter())
    for number in range(CAUSE):
        handler.emit(record("camera %s: online, %s", "door", number))
    assert asked == []
    clock.now += 1
    for number in range(CAUSE, CAUSE + 3):
        handler.emit(record("camera %s: online, %s", "door", number))
    ((seconds, act),) = asked
    assert seconds == WINDOW - 1
    clock.now += seconds
    before = len(stream.getvalue().splitlines())
    act()
    (told,) = stream.getvalue().splitlines()[before:]
    assert told.startswith("WARNING 3 more lines left out, the last at ")
    assert told.endswith(f"Z: camera door: online, {CAUSE + 2}")


def test_a_reminder_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WINDOW", 0.5)
    stream = io.StringIO()
    handler = LimitedHandler(stream)
    handler.setFormatter(TextFormatter())
    for _ in range(CAUSE + 1):
        handler.handle(record("camera %s: online", "door"))
    eventually(lambda: "1 more line left out, the last at" in stream.getvalue(), 20, "reminder", stream.getvalue)


def test_graver_line_of_a_cause_that_repeats_is_written() -> None:
    handler, stream, _ = limited()
    for _ in range(2 * CAUSE):
        handler.emit(record("%s: %s", "commands", "done", level=logging.INFO))
    handler.emit(record("%s: %s", "commands", "failed", level=logging.ERROR))
    assert stream.getvalue().splitlines() == ["INFO commands: done"] * CAUSE + ["ERROR commands: failed"]


def test_many_causes_have_a_limit_too() -> None:
    handler, stream, clock = limited()
    for number in range(5000):
        handler.emit(record("%s", f"line {number}"))
    assert len(stream.getvalue().splitlines()) == ALL
    clock.now += WINDOW
    handler.emit(record("%s", "the next"))
    lines = stream.getvalue().splitlines()
    assert lines[ALL] == f"WARNING {5000 - ALL} lines left out: too many in a minute"
    assert len(lines) <= 2 * ALL + 1, "what is said of each is limited too"


def test_what_the_limit_of_all_left_out_is_said_of_each_cause() -> None:
    asked: list[Callable[[], None]] = []
    stream, clock = io.StringIO(), Clock()
    handler = LimitedHandler(stream, clock, lambda _seconds, act: asked.append(act))
    handler.setFormatter(TextFormatter())
    for number in range(ALL + 20):
        handler.emit(record("camera %s: online", str(number)))
    (act,) = asked
    clock.now += WINDOW
    act()
    text = stream.getvalue()
    assert all(f": camera {number}: online" in text for number in range(ALL, ALL + 20))
    assert len(asked) == 1, "nothing more to remind of"


def test_one_thread_waits_whatever_is_left_out() -> None:
    asked: list[Callable[[], None]] = []
    handler = LimitedHandler(io.StringIO(), Clock(), lambda _seconds, act: asked.append(act))
    for number in range(20):
        for _ in range(CAUSE + 1):
            handler.emit(record("camera %s: online", str(number)))
    assert len(asked) == 1


def test_what_was_left_out_is_said_at_the_end() -> None:
    handler, stream, _ = limited()
    for _ in range(CAUSE + 2):
        handler.emit(record("camera %s: online", "door"))
    handler.close()
    assert "2 more lines left out, the last at " in stream.getvalue().splitlines()[-1]


def test_no_thread_for_a_reminder_is_no_failure() -> None:
    def none_left(_seconds: float, _act: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    handler = LimitedHandler(io.StringIO(), Clock(), none_left)
    for _ in range(CAUSE + 2):
        handler.emit(record("camera %s: online", "door"))


@pytest.mark.usefixtures("_root")
def test_configured_again_there_is_one_line_still() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    configure("warning", "text", stream)
    logging.getLogger("edge").info("not said")
    logging.getLogger("edge").warning("said")
    assert stream.getvalue() == "WARNING said\n"


@pytest.mark.parametrize("journal", [True, False])
def test_prefix_is_for_the_journal_only(journal: bool) -> None:
    """The stream is compared with what systemd says that it has connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        stream = f"{status.st_dev}:{status.st_ino if journal else 0}"
        program = "from edge import logs; import logging; logs.configure('info'); logging.warning('camera: gone')"
        subprocess.run(
            [sys.executable, "-c", program],
            stderr=theirs.fileno(),
            env={**os.environ, "PYTHONPATH": str(ROOT), "JOURNAL_STREAM": stream},
            check=True,
        )
        assert ours.recv(1000).decode() == ("<4>camera: gone\n" if journal else "WARNING camera: gone\n")


@pytest.mark.usefixtures("_root")
def test_in_a_file_each_line_has_its_time(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        configure("info", "text", stream)
        logging.getLogger("edge").warning("said")
    moment, rest = (tmp_path / "log").read_text().split(" ", 1)
    assert abs(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() - time.time()) < 60
    assert rest == "WARNING said\n"


def test_reader_that_has_gone_costs_nothing() -> None:
    program = (
        "import logging, os, sys; from edge import logs; logs.configure('info'); os.close(2); logging.warning('x');"
        "print('alive')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n"


def test_daemon_says_json(parts: Parts, tmp_path: Path) -> None:
    """Down to the end, with a camera and a broker that are not there."""
    config = settings_for(None, cam={"source": "rtsp://127.0.0.1:1/none"})
    daemon = parts.start(Daemon({**config, "log": {"format": "json"}}, tmp_path / "daemon"))
    daemon.wait_for_log("offline")
    daemon.wait_for_log("broker")
    daemon.stop()
    messages = [json.loads(line)["message"] for line in daemon.lines()]
    assert messages[-1] == "stopped"
    assert any(message.startswith("camera cam: offline (refused)") for message in messages)


def test_every_level_has_a_priority() -> None:
    assert set(logs.PRIORITIES) == {10, 20, 30, 40, 50}
