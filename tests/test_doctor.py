"""`emotion-edge doctor`: what it finds, with real brokers and cameras."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import edge.doctor.cameras
from edge.bundle import DEFAULT_MODEL
from edge.cli import cli
from edge.demo import CLIP
from edge.doctor.broker import broker as look_at_broker
from edge.doctor.cameras import rate_of
from edge.doctor.command import line
from edge.doctor.finding import Finding
from edge.doctor.installation import _wheels, installation
from edge.doctor.machine import TIME_ERROR, clock, clock_state, disk, heat
from edge.frames import NotItsTurnError
from edge.settings import CameraSettings, MqttSettings, OutboxSettings
from tests.conftest import Parts
from tests.parts import HOST, free_port
from tests.parts.broker import Mosquitto
from tests.parts.camera import Authority, FakeCamera, http, jpeg, other_protocol, read_request
from tests.parts.daemon import ROOT, Daemon
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

DOOR = {"door": {"source": str(CLIP), "pace": "fast"}}


def examine(tmp_path: Path, **config: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command on these settings; returns exit code and what it found by subject."""
    path = tmp_path / "edge.yaml"
    content = {"node": "test", "cameras": DOOR, "metrics": {"port": free_port()}, **config}
    path.write_text(yaml.safe_dump({"mqtt": {"port": free_port()}, **content}))
    path.chmod(0o640)
    done = CliRunner().invoke(cli, ["doctor", str(path), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    found = json.loads(done.output)
    assert all(set(each) == {"subject", "state", "text", "remedy"} for each in found)
    assert all(bool(each["remedy"]) == (each["state"] != "ok") for each in found)
    return done.exit_code, {each["subject"]: each for each in found}


def test_all_is_well(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, clips: Path, rtsp_server: RtspServer
) -> None:
    (clips / "clip.mp4").write_bytes(CLIP.read_bytes())
    cameras = {**DOOR, "yard": {"source": rtsp_server.url("clip.mp4")}}
    code, found = examine(tmp_path, cameras=cameras, mqtt={"port": broker.port})
    assert code == 0
    assert {subject: each for subject, each in found.items() if each["state"] == "failure"} == {}
    assert {"python", "opencv wheels", "opencv", "runtime", "clock", "temperature"} <= set(found)
    assert found["camera yard"]["text"].startswith("640×480, ")
    assert "frames a second" in found["camera yard"]["text"]
    assert found[f"broker {HOST}:{broker.port}"]["text"] == "connected, takes messages (MQTT 5)"
    assert found["model"]["state"] == found["disk"]["state"] == found["metrics port"]["state"] == "ok"
    # What it sends is an answer that nobody waits for, and nothing is retained.
    subscriber.wait_for(lambda message: message.topic == "emotion/test/response", 10)
    assert len(subscriber.messages) == 1


@given(st.floats(0.5, 60), st.integers(2, 60), st.integers(0, 20), st.floats(0, 1e6))
def test_rate_is_that_after_a_burst_at_the_beginning(rate: float, count: int, burst: int, began: float) -> None:
    times = [began] * burst + [began + number / rate for number in range(count)]
    assert rate_of(times) == pytest.approx(rate, rel=0.01)


def test_no_time_no_rate() -> None:
    assert rate_of([3.0]) is None
    assert rate_of([3.0, 3.0]) is None


@pytest.mark.parametrize(
    ("change", "subject", "text"),
    [
        (("sys.version_info", (3, 9)), "python", "on Linux"),
        (("struct.calcsize", lambda _: 4), "python", "32-bit"),
        (
            ("cv2.getBuildInformation", lambda: "FFMPEG: NO\n v4l/v4l2: YES"),
            "opencv",
            "without network streams and files",
        ),
    ],
)
def test_installations_that_do_not_do(
    monkeypatch: pytest.MonkeyPatch, change: tuple[str, Any], subject: str, text: str
) -> None:
    monkeypatch.setattr(*change)
    found = {each.subject: each for each in installation()}
    assert found[subject].state != "ok"
    assert text in found[subject].text
    assert found[subject].remedy


def test_lines_for_people(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", str(tmp_path / "none.yaml")])
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert {each.split()[0] for each in lines} <= {"ok", "warning", "failure"}
    assert lines[-1].startswith(f"failure  settings: {tmp_path}/none.yaml: No such file or directory")
    assert " → " in lines[-1]


@pytest.mark.parametrize(
    ("path", "says"), [("/proc/none/outbox.db", "nothing can be written in /proc"), ("clip.mp4/outbox.db", "Not a dir")]
)
def test_a_folder_that_cannot_be_made_is_no_full_disk(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "clip.mp4").touch()
    found = disk(OutboxSettings(path=tmp_path / path))
    assert found.state == "failure"
    assert says in found.text
    assert "free" not in found.text


def test_mistakes_in_the_settings_are_findings(tmp_path: Path) -> None:
    code, found = examine(tmp_path, workers=-1)
    assert code == 1
    assert ":5: workers: " in found["settings"]["text"] or "workers" in found["settings"]["text"]


@pytest.mark.parametrize(
    ("login", "acl", "text", "remedy"),
    [
        (("edge", "wrong"), None, "refuses the login", "mqtt.username"),
        (("edge", "pass-w0rd"), "topic read #", "logged in, but takes no message", "publish to emotion/test/#"),
        (("edge", "pass-w0rd"), "topic readwrite #", "logged in, takes messages", ""),
    ],
)
def test_login_and_rights(
    parts: Parts, tmp_path: Path, login: tuple[str, str], acl: str | None, text: str, remedy: str
) -> None:
    folder = parts.folder("broker")
    more: dict[str, Any] = {}
    if acl:
        (folder / "acl").write_text(f"user edge\n{acl}\n")
        more = {"acl_file": str(folder / "acl")}
    broker = parts.start(Mosquitto(folder, passwords={"edge": "pass-w0rd"}, **more))
    mqtt = {"port": broker.port, "username": login[0], "password": login[1]}
    code, found = examine(tmp_path, mqtt=mqtt)
    finding = found[f"broker {HOST}:{broker.port}"]
    assert text in finding["text"]
    assert remedy in finding["remedy"]
    assert code == (1 if remedy else 0)
    assert "pass-w0rd" not in json.dumps(found)


def test_brokers_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as silent, FakeCamera(other_protocol) as mail:
        silent_port = silent.getsockname()[1]
        fallbacks = ["no-such-host.invalid:1883", f"{HOST}:{silent_port}", f"{HOST}:{mail.port}"]
        closed = free_port()
        _, found = examine(tmp_path, mqtt={"port": closed, "fallbacks": fallbacks})
    assert found[f"broker {HOST}:{closed}"]["text"] == "nobody listens there"
    assert found["broker no-such-host.invalid:1883"]["text"] == "no such host"
    assert "does not answer" in found[f"broker {HOST}:{silent_port}"]["text"]
    assert found[f"broker {HOST}:{mail.port}"]["state"] == "failure"


def answer_311_only(listener: socket.socket) -> None:
    """Greet and acknowledge who speaks MQTT 3.1.1; say nothing to anybody else."""
    silent = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            hello = connection.recv(1000)
            if hello and b"MQTT\x04" in hello:
                connection.sendall(b"\x20\x02\x00\x00")
                sent = connection.recv(1000)
                size = int.from_bytes(sent[2:4], "big")
                connection.sendall(b"\x40\x02" + sent[4 + size : 6 + size])
            silent.append(connection)


def test_broker_that_is_silent_to_mqtt_5() -> None:
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=answer_311_only, args=(listener,), daemon=True).start()
        (finding,) = look_at_broker(MqttSettings(port=listener.getsockname()[1]), "node")
        listener.shutdown(socket.SHUT_RDWR)
    assert (finding.state, finding.text) == ("ok", "connected, takes messages (MQTT 3.1.1)")


def test_broker_with_tls(parts: Parts, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign()
    broker = parts.start(Mosquitto(parts.folder("broker"), certfile=str(certificate), keyfile=str(key)))
    subject = f"broker {HOST}:{broker.port}"
    _, found = examine(tmp_path, mqtt={"port": broker.port, "tls": {"ca": str(authority.ca)}})
    assert found[subject]["text"] == "connected, encrypted, takes messages (MQTT 5)"
    _, found = examine(tmp_path, mqtt={"port": broker.port, "tls": {}})
    assert found[subject]["state"] == "failure"
    assert "certificate" in found[subject]["text"]
    _, found = examine(tmp_path, mqtt={"port": broker.port, "tls": {"insecure": True}})
    assert found[subject]["state"] == "warning"


def test_a_camera_whose_turn_does_not_come_is_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    class Waits:
        def open(self, _patience: float) -> None:
            tries.append(time.monotonic())
            time.sleep(0.1)
            raise NotItsTurnError("timeout", "others take long")

        def close(self) -> None:
            pass

    monkeypatch.setattr(edge.doctor.cameras, "make_source", lambda *_: Waits())
    monkeypatch.setattr(edge.doctor.cameras, "LIMIT", 4.0)
    (found,) = edge.doctor.cameras.cameras({"door": CameraSettings(source="rtsp://h/x")})
    assert (found.state, found.text.split(":")[0]) == ("warning", "not tried")
    assert len(tries) > 1


def test_cameras_and_why_not(tmp_path: Path) -> None:
    with FakeCamera(http(pictures=[jpeg(320, 200)])) as small, FakeCamera(other_protocol) as mail:
        cameras = {
            "small": {"source": f"http://{HOST}:{small.port}/"},
            "mail": {"source": f"rtsp://{HOST}:{mail.port}/"},
            "closed": {"source": f"rtsp://{HOST}:{free_port()}/"},
            "webcam": {"source": 77},
            "door": DOOR["door"],
        }
        started = time.monotonic()
        code, found = examine(tmp_path, cameras=cameras)
    assert code == 1
    assert found["camera small"]["state"] == "warning"
    assert found["camera small"]["text"].startswith("320×200")
    assert found["camera mail"]["state"] == "failure"
    assert found["camera closed"]["text"].startswith("refused: ")
    assert found["camera webcam"]["text"].startswith("/dev/video77: no such device")
    assert found["camera door"]["state"] == "ok"
    assert time.monotonic() - started < 60


def test_cameras_that_soon_give_no_more(tmp_path: Path) -> None:
    async def snapshot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        picture = jpeg(640, 480)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        writer.write(head.encode() + picture)
        await writer.drain()

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.jpg").write_bytes(b"no picture")
    with FakeCamera(snapshot) as camera:
        cameras = {"one": {"source": f"http://{HOST}:{camera.port}/"}, "none": {"source": f"{pictures}/"}}
        code, found = examine(tmp_path, cameras=cameras)
    assert code == 1
    assert found["camera one"]["state"] == "warning"
    assert found["camera one"]["text"].startswith("640×480, but after 1 frame ended: ")
    assert found["camera none"]["state"] == "failure"
    assert found["camera none"]["text"] == "of 3 pictures none can be decoded"


def test_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        code, found = examine(tmp_path, metrics={"port": taken.getsockname()[1]})
    assert code == 1
    assert "Address already in use" in found["metrics port"]["text"]


def test_port_at_which_something_else_than_http_answers(tmp_path: Path) -> None:
    with FakeCamera(other_protocol) as taken:
        code, found = examine(tmp_path, metrics={"port": taken.port})
    assert code == 1
    assert "Address already in use" in found["metrics port"]["text"]


def test_port_that_the_daemon_has(
    parts: Parts, tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = parts.start(Daemon(settings_for(broker, cam={"source": str(CLIP), "loop": True}), parts.folder("daemon")))
    daemon.wait_for_ready()
    with monkeypatch.context() as environment:
        environment.setenv("http_proxy", "http://127.0.0.1:9")  # which is not asked
        _, found = examine(tmp_path, metrics=daemon.config["metrics"], mqtt=daemon.config["mqtt"])
    assert found["metrics port"]["text"].endswith("a daemon runs there")
    assert found[f"broker {HOST}:{broker.port}"]["state"] == "ok"
    assert daemon.value("emotion_edge_mqtt_reconnects_total") == 0, "its connection was ended"


def test_password_that_everybody_can_read(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump({"cameras": {"a": {"source": 77}}, "metrics": {"token": "secret-word"}}))
    path.chmod(0o644)
    done = CliRunner().invoke(cli, ["doctor", str(path)])
    assert f"chgrp emotion-edge {path} && chmod 640 {path}" in done.output
    assert "secret-word" not in done.output
    (tmp_path / "token").write_text("a long secret word")
    path.write_text(yaml.safe_dump({"cameras": {"a": {"source": 77}}, "metrics": {"token": {"file": "token"}}}))
    assert "every user may read it" not in CliRunner().invoke(cli, ["doctor", str(path)]).output


def test_broken_model_is_named(tmp_path: Path) -> None:
    content = bytearray(DEFAULT_MODEL.read_bytes())
    content[1000] ^= 1
    (tmp_path / "model.tflite").write_bytes(content)
    code, found = examine(tmp_path, model="model.tflite")
    assert code == 1
    assert found["model"]["state"] == "failure"


@pytest.mark.parametrize(
    ("now", "state", "expected"),
    [(0, 0, "failure"), (0, None, "failure"), (2e9, TIME_ERROR, "warning"), (2e9, 0, "ok"), (2e9, None, "ok")],
)
def test_clock(now: float, state: int | None, expected: str) -> None:
    assert clock(now, state).state == expected


def test_kernel_tells_of_its_clock() -> None:
    assert clock_state() in {None, 0, 1, 2, 3, 4, TIME_ERROR}


@pytest.mark.parametrize(
    ("celsius", "slowed", "states"),
    [(50, 0, ["ok", "ok"]), (85, 1, ["warning", "warning"]), (math.nan, math.nan, ["ok"])],
)
def test_heat(celsius: float, slowed: float, states: list[str]) -> None:
    assert [finding.state for finding in heat(celsius, slowed)] == states


def test_disk(tmp_path: Path) -> None:
    assert disk(OutboxSettings(path=tmp_path / "new" / "outbox.db")).state == "ok"
    (tmp_path / "file").write_text("")
    assert disk(OutboxSettings(path=tmp_path / "file" / "outbox.db")).state == "failure"


@pytest.mark.parametrize(("name", "says"), [("folder", "is no regular file"), ("notes.txt", "is no outbox")])
def test_what_the_daemon_would_refuse_as_its_outbox(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("just words")
    found = disk(OutboxSettings(path=tmp_path / name))
    assert found.state == "failure"
    assert says in found.text


def test_doubled_wheels() -> None:
    found = _wheels({"opencv-python": "4.9", "opencv-python-headless": "4.10"})
    assert found.state == "failure"
    assert "pip uninstall opencv-python opencv-python-headless" in found.remedy
    assert _wheels({"opencv-python-headless": "4.10"}).state == "ok"


def test_this_installation_is_good() -> None:
    assert {finding.state for finding in installation()} == {"ok"}


def test_broken_package_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = subprocess.run(
        [sys.executable, "-m", "edge", "doctor"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("emotion-edge cannot start: libGL.so.1")
    assert "failure  opencv: cannot be imported" in done.stderr


def test_a_line_has_a_remedy_where_there_is_one() -> None:
    assert line(Finding("disk", "ok", "fine")) == "disk: fine"
    assert line(Finding("disk", "failure", "full", "make room")) == "disk: full → make room"
