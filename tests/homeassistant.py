"""`make homeassistant`: a Home Assistant beside the daemon, what it makes of the daemon's messages, a row each.

Home Assistant comes from PyPI, into an environment of its own in `.cache/homeassistant` (800 MB), which wants a Python
3.13: `python3.13`, or what $HOMEASSISTANT_PYTHON names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.bundle import DEFAULT_MODEL, read_bundle
from tests.parts import eventually, free_port
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.rows import Row
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

#: The last one that Python 3.13.0 is enough for, and what it would install by itself at its start.
PACKAGES = ("homeassistant==2025.4.4", "home-assistant-frontend==20250411.0", "paho-mqtt==2.1.0")
HOME = Path(".cache/homeassistant")
PATIENCE = 30.0
EMOTION, FACES = "sensor.test_hall_emotion", "sensor.test_hall_faces_in_view"
CONNECTION, FACE, PAUSED = "binary_sensor.test_hall_connection", "event.test_hall_face", "switch.test_hall_paused"
ENTITIES = {EMOTION, FACES, CONNECTION, FACE, PAUSED}
States = dict[str, dict[str, Any]]


class Core:
    """Home Assistant, connected to a broker.

    Args:
        python: of its environment.
        folder: for its files; what it knows outlives it there.
        broker: port of the broker.
    """

    def __init__(self, python: Path, folder: Path, broker: int) -> None:
        script = Path(__file__).parent / "parts" / "homeassistant_core.py"
        # Without the script's own folder, where another file has the name of the package.
        self._command = [str(python), "-P", str(script), str(folder), str(broker), str(free_port())]
        self._log = folder.with_suffix(".log")

    def __enter__(self) -> Core:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._answer() == "ready", f"Home Assistant does not start:\n{self._log.read_text()[-2000:]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)

    def states(self, action: str = "") -> States:
        """Return its entities, after an action such as `switch.turn_on switch.test_hall_paused`, if one is named."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{action}\n")
        self._process.stdin.flush()
        return dict(json.loads(self._answer()))

    def wait_for(self, condition: Callable[[States], bool], what: str) -> States:
        """Return its entities as soon as they are so."""

        def seen() -> States | None:
            states = self.states()
            return states if condition(states) else None

        return eventually(seen, PATIENCE, what, self.states) or {}

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def prove(python: Path, folder: Path) -> Iterator[Row]:
    """Let a daemon run beside Home Assistant and look what that shows and does."""
    camera = flicker_camera(flickering(folder / "pictures"))
    with Mosquitto(folder / "broker") as broker, Subscriber(broker.port) as subscriber:
        config = {**settings_for(broker, hall=camera), "tracking": TRACKING, "homeassistant": {"discovery": True}}
        daemon = Daemon(config, folder / "daemon")
        with Core(python, folder / "home", broker.port) as home:
            with daemon:
                yield from _while_it_runs(home, daemon, subscriber)
            states = home.wait_for(lambda states: states[EMOTION]["state"] == "unavailable", "end of the daemon")
            shown = {state["state"] for state in states.values()}
            yield Row("the daemon ends", f"{len(states)} entities {shown}", "all unavailable", shown == {"unavailable"})
            daemon.config["cameras"] = {"yard": camera}
            with daemon:
                names = home.wait_for(_only_of_the_yard, "entities of the yard only")
                yield Row("another camera in the settings", ", ".join(sorted(names)), "its five, no other", held=True)
        with daemon, Core(python, folder / "home", broker.port) as home:
            connection = CONNECTION.replace("hall", "yard")
            states = home.wait_for(lambda states: states[connection]["state"] == "on", "connection")
            held = _only_of_the_yard(states)
            yield Row("Home Assistant anew", ", ".join(sorted(states)), "the same, in touch with the daemon", held)


def _has_had_an_event(states: States) -> bool:
    return states.keys() >= ENTITIES and states[FACE].get("event_type") is not None


def _only_of_the_yard(states: States) -> bool:
    return states.keys() == {name.replace("hall", "yard") for name in ENTITIES}


def _while_it_runs(home: Core, daemon: Daemon, subscriber: Subscriber) -> Iterator[Row]:
    states = home.wait_for(_has_had_an_event, "event")
    yield Row("device discovery", ", ".join(sorted(states)), "five entities of the camera", states.keys() == ENTITIES)
    labels = [*read_bundle(DEFAULT_MODEL).info.labels, "none"]
    options = states[EMOTION]["options"]
    yield Row("the sensor's choices", ", ".join(options), "the model's labels and none", options == labels)
    daemon_says = subscriber.on("emotion/test/hall/emotion")
    said = {message.payload["emotion"] for message in daemon_says} | {"none"}
    figure = f"{states[EMOTION]['state']}, {states[FACES]['state']} in view, {states[FACE]['event_type']} of a face"
    held = states[EMOTION]["state"] in said and states[FACE]["event_type"] in {"start", "change", "end"}
    yield Row("it shows what the daemon says", figure, "as published", held and states[CONNECTION]["state"] == "on")
    for action, shown, value in (("turn_on", "on", 1), ("turn_off", "off", 0)):
        home.states(f"switch.{action} {PAUSED}")
        home.wait_for(partial(_switch_is, shown), f"switch that is {shown}")
        paused = daemon.value("emotion_edge_camera_paused", camera="hall")
        yield Row(f"its switch, {action}", f"emotion_edge_camera_paused {paused:g}", f"{value}", paused == value)


def _switch_is(state: str, states: States) -> bool:
    return bool(states[PAUSED]["state"] == state)


def environment() -> Path:
    """Return the Python of an environment with Home Assistant, made if there is none yet."""
    python, done = HOME / "bin" / "python", HOME / "installed"
    if not done.exists():
        named = os.environ.get("HOMEASSISTANT_PYTHON") or shutil.which("python3.13")
        if named is None:
            sys.exit("Home Assistant wants Python 3.13: install it, or name it in $HOMEASSISTANT_PYTHON")
        subprocess.run([named, "-m", "venv", "--clear", HOME], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, *PACKAGES], check=True)
        done.touch()
    return python


def main() -> int:
    """Print a row each; returns 1 if one fell short."""
    python, rows = environment(), []
    with tempfile.TemporaryDirectory(prefix="homeassistant-") as folder:
        for row in prove(python.absolute(), Path(folder)):
            rows.append(row)
            print(f"{'held ' if row.held else 'SHORT'}  {row.fault}: {row.figure} (bar: {row.bar})", flush=True)
    return int(any(row.short for row in rows))


if __name__ == "__main__":
    sys.exit(main())
