"""No secret, and no encoded form of one, comes out of the daemon anywhere."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge.settings import SHORTEST_TOKEN
from tests.conftest import Parts
from tests.parts import HOST, eventually, free_port
from tests.parts import camera as cameras_of_tests
from tests.parts.broker import Mosquitto
from tests.parts.camera import FakeCamera, other_protocol, rtsp
from tests.parts.daemon import Daemon
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

#: In each secret, so that no chance brings one about; to be encoded in addresses.
MARK = "/Zq%7-"
SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40).map(
    lambda text: f"{MARK}{text}"
)
#: What a password of the broker's file and a header can hold.
PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), max_size=40).map(
    lambda text: f"{MARK}{text}"
)
#: Long enough to guard a preview.
TOKENS = PLAIN.filter(lambda text: len(text) >= SHORTEST_TOKEN)
CAMERAS = 6
#: A busy machine is slow.
ALLOWED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def forms(secret: str, user: str) -> Iterator[str]:
    """Yield everything that a secret could appear as."""
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), secret.strip())
    yield from (json.dumps(secret)[1:-1], repr(secret)[1:-1], secret.encode("unicode_escape").decode())
    for text in (secret, f"{user}:{secret}"):
        yield base64.b64encode(text.encode()).decode().rstrip("=")


def log_in(daemon: Daemon, token: str) -> tuple[int, str]:
    """Log in at the preview; returns status, and headers and body of the answer as text."""
    client = http.client.HTTPConnection(HOST, daemon.config["metrics"]["port"], timeout=20)
    form = urlencode({"token": token})
    client.request("POST", "/preview/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = client.getresponse()
    assert answer.status == 303, "the right token"
    told = answer.status, f"{answer.getheaders()} {answer.read().decode()}"
    client.close()
    return told


def command_lines() -> str:
    """Return the arguments of every process of the machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return "\n".join(found)


@given(passwords=st.lists(SECRETS, min_size=CAMERAS, max_size=CAMERAS, unique=True), broker=PLAIN, token=TOKENS)
@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=ALLOWED)
def test_no_secret_comes_out(parts: Parts, passwords: list[str], broker: str, token: str) -> None:
    server = parts.start(Mosquitto(parts.folder("broker"), passwords={"edge": broker}))
    challenge = 'Basic realm="camera"'
    with (
        FakeCamera(cameras_of_tests.http(challenge=challenge)) as refuses,
        FakeCamera(rtsp(challenges=[challenge])) as streams,
        FakeCamera(other_protocol) as mail,
        Subscriber(server.port, user="edge", password=broker) as subscriber,
    ):
        sources = [
            f"http://{HOST}:{refuses.port}/live",
            f"rtsp://{HOST}:{streams.port}/live",
            f"rtsp://{HOST}:{mail.port}/live",
            f"rtsp://{HOST}:{free_port()}/live",
            f"http://{HOST}:{mail.port}/live",
            "rtsps://no-such-host.invalid/live",
        ]
        cameras: dict[str, Any] = {
            f"cam{number}": {"source": source, "username": "viewer", "password": password}
            for number, (source, password) in enumerate(zip(sources, passwords, strict=True))
        }
        config = settings_for(server, **cameras)
        config["mqtt"] |= {"username": "edge", "password": "${BROKER_PASSWORD}"}
        config["metrics"]["token"] = {"file": "token"}
        config["log"] = {"level": "debug"}
        config["preview"] = {"enabled": True}
        config["version"] = 2
        folder = parts.folder("daemon")
        (folder / "token").write_text(f"{token}\n", encoding="utf-8")
        daemon = parts.start(Daemon(config, folder, environment={"BROKER_PASSWORD": broker}))
        daemon.wait_for_ready()
        for name in cameras:
            daemon.wait_for_log(rf"camera {name}: offline \((?!starting)", 60)
        subscriber.publish("emotion/test/set", {"id": "1", "command": "snapshot", "arguments": {}})
        subscriber.wait_for(lambda message: message.topic == "emotion/test/response")
        pages = [daemon.get(path) for path in ("/", "/metrics", "/healthz", "/readyz", "/settings", f"/{quote(token)}")]
        request = urllib.request.Request(f"{daemon.address}/metrics", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            metrics = answer.read().decode()
        assert "emotion_edge_camera_up" in metrics
        for path in ("/preview", "/preview/state"):
            status, page = daemon.get(path, token)
            assert status == 200
            pages.append((status, page))
        pages.append(log_in(daemon, token))
        running = command_lines()
        daemon.stop()
        eventually(lambda: any("stopped" in str(m.payload) for m in subscriber.messages), 30, "farewell")
        seen = {
            "log": daemon.log.read_text(encoding="utf-8", errors="replace"),
            "metrics": metrics,
            "pages": repr(pages),
            "command lines": running,
            "topics": "\n".join(f"{m.topic} {m.raw.decode(errors='replace')}" for m in subscriber.messages),
        }
    for user, secret in [("viewer", each) for each in passwords] + [("edge", broker), ("", token)]:
        for form in forms(secret, user):
            assert [where for where, text in seen.items() if form in text] == [], form
