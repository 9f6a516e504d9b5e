"""The steps of the Dockerfile in fresh Debians, and the daemon as the image starts it; no engine is wanted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.booted.test_service import FIGURES
from tests.conftest import Parts
from tests.parts import eventually, free_port, tool
from tests.parts.booted import fresh_debian
from tests.parts.broker import Mosquitto
from tests.parts.child import Child
from tests.parts.docker import HERE, context, instructions
from tests.parts.subscriber import Subscriber

#: Authorities of this machine: its package index may be behind one of its own.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


class Image:
    """The root folders that the Dockerfile's stages come to, in a Debian's own instead of the image's."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._work = folder, Path("/")
        self.root, self.user = folder, "root"
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

    def build(self) -> None:
        """Carry out the instructions one after the other."""
        for name, rest in instructions():
            step = getattr(self, f"_{name.lower()}", None)
            if step is not None:
                step(rest)

    def command(self, *command: str, mounts: dict[Path, str] | None = None) -> list[str]:
        """Return the command that runs another one in the root folder as the image's user."""
        nspawn = [tool("systemd-nspawn", "systemd-container"), "--quiet", f"--directory={self.root}", "--pipe"]
        nspawn += [
            "--register=no",
            "--keep-unit",
            "--kill-signal=SIGTERM",
            "--resolv-conf=copy-host",
            f"--user={self.user}",
        ]
        nspawn += [f"--setenv={name}={value}" for name, value in self.environment.items()]
        nspawn += [f"--bind-ro={source}:{target}" for source, target in (mounts or {}).items()]
        return [*nspawn, f"--chdir={self._work}", "--", *command]

    def _from(self, rest: str) -> None:
        assert rest.startswith("debian:bookworm-slim")
        self.root, self._work = self._folder / rest.rpartition(" ")[2].replace(":", "-"), Path("/")
        subprocess.run(["cp", "--archive", "--reflink=auto", fresh_debian(), self.root], check=True)

    def _workdir(self, rest: str) -> None:
        self._work = Path(rest)
        self._at(rest).mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        if rest == ". .":
            return context(self._at(self._work))
        stage, source, target = rest.removeprefix("--from=").split()
        subprocess.run(["cp", "--archive", f"{self._folder / stage}{source}", self._at(target)], check=True)
        return None

    def _run(self, rest: str) -> None:
        command = self.command("/bin/sh", "-c", rest, mounts={AUTHORITIES: "/run/authorities"})
        command.insert(1, "--setenv=PIP_CERT=/run/authorities")
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, f"RUN {rest}: {done.stdout[-2000:]!r}{done.stderr[-4000:]!r}"

    def _env(self, rest: str) -> None:
        self.environment.update((name, value) for name, _, value in (pair.partition("=") for pair in rest.split()))

    def _user(self, rest: str) -> None:
        self.user, _, _ = rest.partition(":")

    def _at(self, path: str | Path) -> Path:
        return self.root / str(path).lstrip("/")


class Container(Child):
    """The image's command, running."""

    name = "container"
    stop_timeout = 30.0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build()
    return image


def test_the_image_publishes_events_and_is_healthy(parts: Parts, image: Image, figure: FIGURES) -> None:
    broker = parts.start(Mosquitto(parts.folder("plain")))
    subscriber = parts.start(Subscriber(broker.port))
    settings = yaml.safe_load((HERE / "edge.yaml").read_text())
    settings["mqtt"]["port"], settings["metrics"]["port"] = broker.port, free_port()
    folder = parts.folder("settings")
    (folder / "edge.yaml").write_text(yaml.safe_dump(settings))
    (folder / "token").write_text("a token\n")
    steps = dict(instructions())
    start = [*json.loads(steps["ENTRYPOINT"]), *json.loads(steps["CMD"])]
    mounts = {folder / name: f"/etc/emotion-edge/{name}" for name in ("edge.yaml", "token")}
    container = parts.start(Container(image.command(*start, mounts=mounts), parts.folder("container")))
    node = settings["node"]
    event = subscriber.wait_for(lambda m: m.topic == f"emotion/{node}/demo/event", 40, "event").payload
    owner = image.root / "var/lib/emotion-edge/outbox.db"
    assert (owner.stat().st_uid, owner.stat().st_gid) == (990, 990)
    check = [
        part.replace(":9464", f":{settings['metrics']['port']}")
        for part in json.loads(steps["HEALTHCHECK"].partition("CMD ")[2])
    ]
    eventually(
        lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0, 20, "health", container.tail
    )
    container.stop()
    subscriber.wait_for_farewell(node)
    figure(
        f"Dockerfile: its steps in fresh Debians; {event['emotion']} at the broker, healthy, user 990, stops cleanly"
    )
