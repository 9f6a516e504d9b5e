"""What systemd is told, and what the units ask of it."""

import re
import shlex
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from edge.demo import CLIP
from edge.pipeline import NICE, STUCK
from edge.systemd import notify, watchdog_seconds
from tests.parts import tool
from tests.parts.daemon import ROOT, Daemon, untimed
from tests.parts.settings import settings_for
from tests.parts.watchdog import restart_pause

UNITS = ROOT / "systemd"
UNIT, TEMPLATE = UNITS / "emotion-edge.service", UNITS / "emotion-edge@.service"
#: What any says where nothing is installed.
EXPECTED = re.compile(r"emotion-edge is not executable")
#: Exposure at most, of 10.
MOST_EXPOSED = 1.8


@pytest.fixture
def listen():
    """Return a function that binds a datagram socket to an address."""
    opened = []

    def bind(address):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.settimeout(5)
        listener.bind(address)
        opened.append(listener)
        return listener

    yield bind
    for listener in opened:
        listener.close()


def test_fields_reach_the_socket_in_one_message(listen, tmp_path, monkeypatch):
    listener = listen(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert notify(READY=1, STATUS="2 cameras")
    assert listener.recv(4096) == b"READY=1\nSTATUS=2 cameras"


def test_abstract_sockets_work(listen, monkeypatch):
    name = f"emotion-edge-{uuid.uuid4()}"
    listener = listen(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    assert notify(WATCHDOG=1)
    assert listener.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens-here"])
def test_nobody_to_tell(address, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(READY=1)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("30000000", 15.0), ("1500000", 0.75), (None, None), ("", None), ("0", None), ("-5", None), ("soon", None)],
)
def test_watchdog_is_fed_at_half_its_limit(limit, seconds, monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if limit is not None:
        monkeypatch.setenv("WATCHDOG_USEC", limit)
    assert watchdog_seconds() == seconds


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda unit: unit.name)
def test_systemd_understands_the_units(unit):
    verify = [tool("systemd-analyze", "systemd"), "verify", unit]
    said = subprocess.run(verify, capture_output=True, text=True, timeout=60).stderr.splitlines()
    assert not [line for line in said if not EXPECTED.search(line)]


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda unit: unit.name)
def test_the_units_take_away_what_the_daemon_does_not_need_and_say_why_the_rest_is_open(unit):
    analyse = [tool("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", unit]
    said = subprocess.run(analyse, capture_output=True, text=True, timeout=60, check=True).stdout
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1]) <= MOST_EXPOSED
    left_open = set(re.findall(r"^✗ (\w+)=", said, re.M))
    reasons = "".join(re.findall(r"^#.*\n", unit.read_text().partition("# Left open, and why:")[2], re.M))
    assert {name for name in left_open if name not in reasons} == set()
    assert "PrivateDevices" in left_open


def test_the_template_differs_in_names_only():
    named = TEMPLATE.read_text().replace(" (%i)", "").replace("%i.yaml", "edge.yaml").replace("/%i", "")
    assert _directives(named) == _directives(UNIT.read_text())
    assert len(_directives(named)) > 40


def test_reload_is_the_signal_on_which_the_settings_are_read_where_they_are():
    directives = _directives(UNIT.read_text())
    assert "ExecReload=/bin/kill -HUP $MAINPID" in directives
    start = next(line for line in directives if line.startswith("ExecStart="))
    assert start.endswith(" run --config /etc/emotion-edge/edge.yaml"), (
        "a credential would stay what it was at the start"
    )


def test_bad_settings_are_not_tried_again():
    assert "RestartPreventExitStatus=2" in _directives(UNIT.read_text())


def test_who_hangs_runs_again_within_five_seconds_of_the_watchdogs_time():
    assert STUCK + restart_pause() <= 4.5, "half a second is for systemd itself"
    assert not [line for line in _directives(UNIT.read_text()) if line.startswith(("RestartSteps", "StartLimit"))]


@pytest.mark.parametrize(
    ("result", "status", "pause"),
    [
        ("success", "0", 0.0),
        ("watchdog", "ABRT", 0.0),
        ("exit-code", "2", 0.0),
        ("exit-code", "1", 4.9),
        ("signal", "KILL", 4.9),
        ("core-dump", "SEGV", 4.9),
        ("timeout", "TERM", 4.9),
    ],
)
def test_who_fails_otherwise_begins_no_sooner_than_after_five_seconds(result, status, pause, tmp_path):
    """So it stays below the five starts in ten seconds after which systemd starts it no more."""
    (tmp_path / "sleep").write_text('#!/bin/sh\necho "$1"\n')
    (tmp_path / "sleep").chmod(0o700)
    (line,) = [line for line in _directives(UNIT.read_text()) if line.startswith("ExecStopPost=")]
    command = shlex.split(line.partition("=")[2].replace("$$", "$"))
    environment = {"PATH": str(tmp_path), "SERVICE_RESULT": result, "EXIT_STATUS": status}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert float(said or 0) == pause
    assert pause == 0 or pause + restart_pause() >= 5


def test_the_user_is_made_and_may_open_cameras(tmp_path):
    (tmp_path / "etc").mkdir()
    make = [tool("systemd-sysusers", "systemd"), f"--root={tmp_path}", UNITS / "sysusers.d" / "emotion-edge.conf"]
    subprocess.run(make, capture_output=True, timeout=60, check=True)
    user = (tmp_path / "etc" / "passwd").read_text().splitlines()[-1].split(":")
    assert (user[0], user[-1]) == ("emotion-edge", "/usr/sbin/nologin")
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc" / "group").read_text().splitlines())
    assert groups["video"].endswith(":emotion-edge")
    directives = _directives(UNIT.read_text())
    assert {"User=emotion-edge", "Group=emotion-edge", "SupplementaryGroups=video"} <= set(directives)


def test_the_daemon_works_with_the_system_calls_that_the_unit_leaves(parts, broker, subscriber):
    daemon = Daemon(settings_for(broker, cam={"source": str(CLIP), "loop": True}), parts.folder("daemon"))
    daemon.command = [sys.executable, "-m", "tests.parts.sandbox", str(UNIT), *daemon.command]
    parts.start(daemon)
    assert "Seccomp:\t2" in Path(f"/proc/{daemon.pid}/status").read_text()
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event" and m.payload["type"] == "start", 60)
    assert daemon.outbox.stat().st_size > 0
    priorities = [int(task.joinpath("stat").read_text().rpartition(")")[2].split()[16]) for task in tasks(daemon.pid)]
    assert set(priorities) == {min(priorities), min(19, min(priorities) + NICE)}
    assert not [line for line in daemon.lines() if untimed(line).startswith(("WARNING", "ERROR"))]
    assert daemon.stop() == 0


def tasks(pid):
    return list(Path(f"/proc/{pid}/task").iterdir())


def test_what_the_unit_takes_away_is_refused():
    attempt = "import mmap, os, sys\ntry: {}\nexcept PermissionError: sys.exit(7)"
    for call, code in (
        ("os.sched_setaffinity(0, os.sched_getaffinity(0))", 7),
        ("os.nice(1)", 0),
        ("os.chown('.', 0, 0)", 7),
        ("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)", 7),
        ("mmap.mmap(-1, 4096)", 0),
    ):
        command = [sys.executable, "-m", "tests.parts.sandbox", UNIT, sys.executable, "-c", attempt.format(call)]
        assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == code, call


def _directives(unit):
    return [line for line in unit.splitlines() if line and not line.startswith(("#", "["))]
