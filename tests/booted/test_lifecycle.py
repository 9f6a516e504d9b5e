"""The package from its installation to its purge, on one booted Debian."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.booted.conftest import LATER, PASSWORD, USER
from tests.booted.test_service import CLIP, FIGURES
from tests.conftest import Parts
from tests.parts import HOST, eventually, free_port
from tests.parts.booted import SETTINGS, UNIT, Machine
from tests.parts.broker import Mosquitto
from tests.parts.subscriber import Subscriber

OUTBOX = Path("/var/lib/emotion-edge/outbox.db")
#: What apt, dpkg, systemd and others write down of what they do; and the user, who stays.
RECORDS = re.compile(
    r"/(run|tmp|proc|sys|dev)/|/var/(log|tmp|cache|lib/(dpkg|apt|systemd|private))/|"
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/\.pwd\.lock$|/etc/ld\.so\.cache$|/etc/machine-id$"
)


def test_settings_and_events_outlive_an_upgrade_and_a_purge_leaves_nothing(
    parts: Parts, broker: Mosquitto, package: Path, later_package: Path, figure: FIGURES
) -> None:
    machine = parts.start(Machine(parts.folder("machine")))
    before = _files(machine)
    machine.install(package)
    settings = yaml.safe_dump(
        {
            "version": 2,
            "node": "test",
            "cameras": {"cam": CLIP},
            "mqtt": {"host": HOST, "port": broker.port, "username": USER, "password": PASSWORD},
            "metrics": {"port": free_port()},
            "outbox": {"path": str(OUTBOX)},
        }
    )
    machine.path(SETTINGS).write_text(settings)
    owner = machine.run("stat", "--format=%a %U:%G", SETTINGS)
    machine.run("systemctl", "enable", "--now", UNIT)

    subscriber = parts.start(Subscriber(broker.port, user=USER, password=PASSWORD))
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event", 30, "event")
    broker.kill()
    # What had been acknowledged by then leaves the file within a second.
    sent = set(_waiting(machine))
    waiting = eventually(lambda: set(_waiting(machine)) - sent, 30, "events that wait", machine.journal)
    pid = machine.show("MainPID")

    machine.install(later_package)
    assert machine.run("dpkg-query", "--show", "--showformat=${Version}", "emotion-edge").startswith(LATER)
    assert machine.path(SETTINGS).read_text() == settings
    assert machine.run("stat", "--format=%a %U:%G", SETTINGS) == owner == "640 root:emotion-edge\n"
    assert machine.path(f"{SETTINGS}.dpkg-dist").read_text().endswith("# Of a later version.\n")
    machine.wait_for("ActiveState", "active", 30)
    assert machine.show("MainPID") not in ("0", pid)
    assert waiting <= set(_waiting(machine))
    broker.start()
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload.get("version") == LATER, 40, "version")
    eventually(
        lambda: waiting <= {m.payload["id"] for m in subscriber.on("emotion/test/cam/event")},
        30,
        "events from before the upgrade",
    )
    figure(f"upgraded: settings kept (640 root:emotion-edge), {len(waiting)} waiting events kept and delivered")

    machine.stop()
    machine.start()
    machine.wait_for("ActiveState", "active", 60)
    figure("enabled: runs again after the machine was booted again")

    machine.run("apt-get", "remove", "--yes", "emotion-edge")
    assert not machine.path("/opt/emotion-edge").exists()
    assert machine.ask("systemctl", "is-active", UNIT) == "inactive"
    assert machine.ask("pgrep", "-u", "emotion-edge") == ""
    assert machine.path(SETTINGS).read_text() == settings
    assert machine.path(OUTBOX).is_file()
    figure("removed: nothing runs, /opt/emotion-edge is gone, settings and outbox are kept")

    machine.run("apt-get", "purge", "--yes", "emotion-edge")
    assert _files(machine) - before == set()
    figure("purged: no file is there that was not before; the user stays")


def _files(machine: Machine) -> set[str]:
    """Return the paths of all files and folders of the machine, but for records."""
    found = machine.run("find", "/", "-xdev", "-printf", r"%p\n").splitlines()
    return {path for path in found if not RECORDS.search(path)}


def _waiting(machine: Machine) -> list[str]:
    """Return the ids of events that wait for the broker."""
    command = ["runuser", "-u", "emotion-edge", "--", "emotion-edge", "outbox", "ls", "--json"]
    rows = [json.loads(line) for line in machine.run(*command).splitlines()]
    return [row["id"] for row in rows if row["kind"] == "event"]
