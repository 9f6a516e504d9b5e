"""The service on a booted Debian, installed from the package: each test begins with it running, in any order."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.booted.conftest import PASSWORD, USER
from tests.conftest import Parts
from tests.parts import HOST, eventually, free_port
from tests.parts.booted import SETTINGS, SITE, UNIT, Machine
from tests.parts.broker import Mosquitto
from tests.parts.subscriber import Message, Subscriber

#: A camera that is always there.
CLIP = {"source": str(SITE / "edge" / "media" / "demo.mp4"), "loop": True, "max_fps": 5}
OFFLINE = {"state": "offline", "reason": "stopped"}
#: What the unit leaves the process to write to, beside its devices.
WRITABLE = {"/var/lib/emotion-edge", "/tmp", "/var/tmp"}
FIGURES = Callable[[str], None]


class Service:
    """The unit on the machine, and its settings."""

    def __init__(self, machine: Machine, broker: Mosquitto) -> None:
        self.machine = machine
        self.settings: dict[str, Any] = {
            "version": 2,
            "node": "test",
            "cameras": {"cam": dict(CLIP)},
            "mqtt": {"host": HOST, "port": broker.port, "username": USER, "password": {"credential": "mqtt-password"}},
            "metrics": {"port": free_port()},
            "outbox": {"path": "/var/lib/emotion-edge/outbox.db"},
        }
        credential = machine.path("/etc/credstore/mqtt-password")
        credential.parent.mkdir(mode=0o700, exist_ok=True)
        credential.write_text(PASSWORD)
        credential.chmod(0o600)

    @property
    def pid(self) -> int:
        """The number of its main process, on the machine; 0 without one."""
        return int(self.machine.show("MainPID"))

    def write(self, text: str = "", path: Path = SETTINGS) -> None:
        """Write its settings, or a text instead of them; owner and mode of the file stay what they are."""
        self.machine.path(path).write_text(text or yaml.safe_dump(self.settings))

    def start(self) -> None:
        """Start it anew with its settings and wait until systemd holds it for ready."""
        self.write()
        self.machine.ask("systemctl", "reset-failed", UNIT)
        self.machine.run("systemctl", "restart", UNIT)


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the package is installed and nothing else done."""
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        machine.install(package)
        yield machine
        machine.stop()


@pytest.fixture
def subscriber(parts: Parts, broker: Mosquitto) -> Iterator[Subscriber]:
    """A client that gets everything the service publishes; it must keep to the schemas."""
    client = parts.start(Subscriber(broker.port, user=USER, password=PASSWORD))
    yield client
    client.check_schemas()


@pytest.fixture
def service(machine: Machine, broker: Mosquitto, subscriber: Subscriber) -> Iterator[Service]:
    """The service, with a camera that is online and a broker that gets its events."""
    service = Service(machine, broker)
    shipped = machine.path(SETTINGS).read_text()
    service.start()
    _wait_for_start(subscriber)
    yield service
    machine.run("systemctl", "stop", UNIT)
    machine.ask("systemctl", "reset-failed", UNIT)
    service.write(shipped)


def _wait_for_start(subscriber: Subscriber, start: int = 0) -> Message:
    """Wait for a face to be reported, after the first messages."""
    topic = "emotion/test/cam/event"
    return subscriber.wait_for(lambda m: m.topic == topic and m.payload["type"] == "start", 30, "start", start)


def test_it_is_installed_and_waits_for_settings(machine: Machine, figure: FIGURES) -> None:
    enabled, active = (machine.ask("systemctl", what, UNIT) for what in ("is-enabled", "is-active"))
    assert (enabled, active) == ("disabled", "inactive")
    machine.refuses("systemctl", "start", UNIT)
    # The pause before another start, if there were to be one.
    time.sleep(6)
    assert (machine.show("ActiveState"), machine.show("NRestarts")) == ("failed", "0")
    (line,) = [line for line in machine.journal().splitlines() if line.startswith(str(SETTINGS))]
    assert re.fullmatch(rf"{SETTINGS}:\d+: cameras: .+", line)
    machine.ask("systemctl", "reset-failed", UNIT)
    figure(f"installed: {enabled}, {active}; started with the settings as they came: failed once, {line!r}")


def test_events_arrive(service: Service, subscriber: Subscriber, figure: FIGURES) -> None:
    event = _wait_for_start(subscriber).payload
    status = service.machine.show("StatusText")
    assert "1 camera" in status
    assert service.machine.show("Type") == "notify"
    figure(f"started: {event['emotion']} at the broker with the password from /etc/credstore; STATUS {status!r}")


def test_a_killed_daemon_comes_back(service: Service, subscriber: Subscriber, figure: FIGURES) -> None:
    before, pid, began = len(subscriber.messages), service.pid, time.monotonic()
    service.machine.run("kill", "-KILL", str(pid))
    service.machine.wait_for("NRestarts", "1", 30)
    event = _wait_for_start(subscriber, before)
    assert service.pid not in (0, pid)
    lost = {"state": "offline", "reason": "lost"}
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload == lost, 5, "last will", before)
    figure(f"kill -9: restarted, next start of a face after {event.time - began:.1f} s; last will came")


def test_a_frozen_daemon_is_restarted_by_the_watchdog(
    service: Service, subscriber: Subscriber, figure: FIGURES
) -> None:
    before, pid, began = len(subscriber.messages), service.pid, time.monotonic()
    service.machine.run("kill", "-STOP", str(pid))
    service.machine.wait_for("NRestarts", "1", 90)
    assert re.search(r"Watchdog timeout", service.machine.journal())
    event = _wait_for_start(subscriber, before)
    assert service.pid not in (0, pid)
    figure(f"SIGSTOP: watchdog, restarted, next start of a face after {event.time - began:.1f} s")


def test_a_stop_says_offline(service: Service, subscriber: Subscriber, figure: FIGURES) -> None:
    began = time.monotonic()
    service.machine.run("systemctl", "stop", UNIT)
    said = subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload == OFFLINE, 5, "offline")
    assert said.time - began < 5
    assert (service.machine.show("Result"), service.machine.show("ActiveState")) == ("success", "inactive")
    figure(f"stop: offline published after {said.time - began:.1f} s")


def test_a_reload_takes_changed_settings(service: Service, subscriber: Subscriber, figure: FIGURES) -> None:
    pid, before = service.pid, len(subscriber.messages)
    service.settings["cameras"]["second"] = dict(CLIP)
    service.write()
    service.machine.run("systemctl", "reload", UNIT)
    topic = "emotion/test/second/status"
    subscriber.wait_for(lambda m: m.topic == topic and m.payload == {"state": "online"}, 20, "second camera", before)
    service.write("cameras: [\n")
    service.machine.run("systemctl", "reload", UNIT)
    eventually(lambda: f"{SETTINGS}:" in service.machine.journal(), 10, "line of the mistake", service.machine.journal)
    service.machine.wait_for("ActiveState", "active", 5)
    assert service.pid == pid
    figure("reload: a camera more in the same process; a file with a mistake changes nothing, the journal has its line")


def test_broken_settings_fail_and_the_journal_says_where(service: Service, figure: FIGURES) -> None:
    service.settings["cameras"]["cam"]["zone"] = []
    service.write()
    service.machine.refuses("systemctl", "restart", UNIT)
    time.sleep(6)
    assert (service.machine.show("ActiveState"), service.machine.show("Result")) == ("failed", "exit-code")
    assert (service.machine.show("ExecMainStatus"), service.machine.show("NRestarts")) == ("2", "0")
    (line,) = [line for line in service.machine.journal().splitlines() if line.startswith(f"{SETTINGS}:")][-1:]
    assert re.match(rf"{SETTINGS}:\d+: cameras\.cam\.zone", line)
    figure(f"broken settings: failed with exit code 2, not tried again; journal {line!r}")


def test_it_has_the_rights_it_was_granted_and_no_others(service: Service, figure: FIGURES) -> None:
    machine = service.machine
    status = dict(line.split(":", 1) for line in machine.run("cat", f"/proc/{service.pid}/status").splitlines())
    user, group = (int(machine.run("id", f"-{letter}", "emotion-edge")) for letter in "ug")
    video = int(machine.run("getent", "group", "video").split(":")[2])
    assert user != 0
    assert {int(number) for number in status["Uid"].split()} == {user}
    assert {int(number) for number in status["Gid"].split()} == {group}
    assert {int(number) for number in status["Groups"].split()} <= {group, video}
    assert video in {int(number) for number in status["Groups"].split()}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (int(status["NoNewPrivs"]), int(status["Seccomp"])) == (1, 2)
    writable = _writable(machine, service.pid, user, group, video)
    assert {path for path in writable if not path.startswith("/var/lib/emotion-edge/")} == WRITABLE
    settings = machine.run("stat", "--format=%a %U:%G", SETTINGS).strip()
    state = machine.run("stat", "--format=%a %U:%G", "/var/lib/emotion-edge").strip()
    assert (settings, state) == ("640 root:emotion-edge", "700 emotion-edge:emotion-edge")
    figure(
        f"rights: user {user} (emotion-edge), groups emotion-edge and video, no capability, no new privileges, "
        f"system calls filtered; may write to {', '.join(sorted(WRITABLE))}; settings {settings}, state {state}"
    )


def test_further_daemons_run_beside_it(service: Service, subscriber: Subscriber, figure: FIGURES) -> None:
    machine, other = service.machine, "emotion-edge@door.service"
    path = "/var/lib/emotion-edge/door/outbox.db"
    settings = {**service.settings, "node": "door", "metrics": {"port": free_port()}, "outbox": {"path": path}}
    service.write(yaml.safe_dump(settings), SETTINGS.with_name("door.yaml"))
    os.chown(machine.path(SETTINGS.with_name("door.yaml")), 0, int(machine.run("id", "-g", "emotion-edge")))
    machine.path(SETTINGS.with_name("door.yaml")).chmod(0o640)
    machine.run("systemctl", "start", other)
    topic = "emotion/door/cam/event"
    subscriber.wait_for(lambda m: m.topic == topic, 30, "event of the second daemon")
    assert machine.path(path).is_file()
    assert machine.show("ActiveState") == "active"
    machine.run("systemctl", "stop", other)
    figure("template: emotion-edge@door runs beside it with settings and outbox of its own")


def _writable(machine: Machine, pid: int, user: int, group: int, *groups: int) -> set[str]:
    """Return what a process of that user can write to in the file systems that the service's process sees."""
    become = ["setpriv", f"--reuid={user}", f"--regid={group}", f"--groups={','.join(map(str, groups))}"]
    look = [
        "find",
        "/",
        "-regextype",
        "egrep",
        "-regex",
        "/(proc|sys|dev)",
        "-prune",
        "-o",
        "-writable",
        "-type",
        "d,f",
        "-print",
    ]
    found = machine.ask("nsenter", f"--target={pid}", "--mount", *become, *look)
    return set(found.splitlines())
