"""`make run`: what a new user does first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.settings import settings_for

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "edge" / "media" / "demo.mp4"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "run.log"


def _run(config: dict[str, object], log: Path) -> subprocess.Popen[bytes]:
    path = log.with_name("edge.yaml")
    path.write_text(yaml.safe_dump(config))
    command = [Path(sys.executable).parent / "emotion-edge", "run", "--demo", "--config", str(path)]
    assert command[0].exists(), "run make test, which installs the command"
    return subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, cwd=ROOT)


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("own_broker", [False, True], ids=["embedded broker", "own broker"])
def test_demo_prints_where_to_look_and_events_and_ends_at_once(
    log: Path, ended: list[subprocess.Popen[bytes]], own_broker: bool, broker: Mosquitto
) -> None:
    config = settings_for(broker if own_broker else None, demo={"source": str(DEMO), "loop": True})
    process = _run(config, log)
    ended.append(process)
    port = config["mqtt"]["port"]
    eventually(lambda: " start " in log.read_text(), 40, "start event", log.read_text)
    text = log.read_text()
    assert f"broker   127.0.0.1:{port}" in text
    assert ("embedded" in text) is not own_broker
    assert ("MQTT 5" if own_broker else "MQTT 3.1.1") in text
    assert "topics   emotion/test/#" in text
    assert f"http://127.0.0.1:{config['metrics']['port']}/metrics" in text
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert time.monotonic() - started < 2
    assert "Traceback" not in log.read_text()
