"""The demo: a bundled clip or any source, an embedded broker where none answers, events printed as they go out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from edge.events import Event, rfc3339
from edge.section import first_mistake
from edge.settings import CameraSettings, MqttSettings, PreviewSettings, Settings

CLIP = Path(__file__).parent / "media" / "demo.mp4"
CAMERA = "demo"
BROKER_TIMEOUT = 5.0
SHUTDOWN_TIMEOUT = 0.5


class DemoError(RuntimeError):
    """The demo cannot start; the message says what to do."""


def demo_settings(source: str | None) -> Settings:
    """Return settings for a preview of one camera: `source` once, or the bundled clip for ever. Raises `DemoError`."""
    try:
        camera = CameraSettings(source=source) if source else CameraSettings(source=str(CLIP), loop=True)
    except ValidationError as error:
        reason = first_mistake(error)
        where = " of a settings file, which --config names" if "keys username" in reason else ""
        raise DemoError(f"--source: {reason}{where}") from None
    path = Path(camera.source)
    if camera.recorded and not (os.path.isfile(path) if camera.kind == "file" else os.path.isdir(path)):
        raise DemoError(
            f"--source: {path}: no such file; name a video file, a folder/, an rtsp:// address or a webcam's index"
        )
    return Settings(cameras={CAMERA: camera}, preview=PreviewSettings(enabled=True))


def with_own_outbox(settings: Settings, folder: Path) -> Settings:
    """Return settings whose outbox is in a folder of the demo, unless they name one themselves.

    What a daemon of this user has waiting is not for the demo to send.
    """
    if "path" in settings.outbox.model_fields_set:
        return settings
    outbox = settings.outbox.model_copy(update={"path": folder / "outbox.db"})
    return settings.model_copy(update={"outbox": outbox})


def broker_answers(settings: MqttSettings) -> bool:
    """Tell whether something listens at the broker's address."""
    try:
        socket.create_connection((settings.host, settings.port), timeout=1).close()
    except OSError:
        return False
    return True


class EmbeddedBroker:
    """An MQTT 3.1.1 broker in this process (amqtt, from the extra `demo`), for machines without one.

    Args:
        settings: where to listen.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self._address = f"{settings.host}:{settings.port}"
        self._started = threading.Event()
        self._failure: str | None = None
        self._leave: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="broker", daemon=True)

    def start(self) -> None:
        """Listen. Raises `DemoError`."""
        try:
            import amqtt.broker  # noqa: F401 - only the demo needs it
        except ImportError:
            raise DemoError(
                f"no broker answers at {self._address}: start one, name another in the settings, "
                "or install the demo's own with pip install 'emotion-edge[demo]'"
            ) from None
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self._thread.start()
        self._started.wait(BROKER_TIMEOUT)
        if self._failure is not None or not self._started.is_set():
            raise DemoError(f"the embedded broker cannot listen at {self._address}: {self._failure or 'no answer'}")

    def stop(self) -> None:
        """Stop listening."""
        self._leave()
        self._thread.join(2 * SHUTDOWN_TIMEOUT)

    async def _run(self) -> None:
        from amqtt.broker import Broker
        from amqtt.errors import AMQTTError, BrokerError

        leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        # A client that is not through with its greeting when we leave would get amqtt a traceback on the terminal.
        loop.set_exception_handler(lambda _loop, _context: None)
        configuration = {
            "listeners": {"default": {"type": "tcp", "bind": self._address}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
        try:
            broker = Broker(configuration)
            await broker.start()
        except (AMQTTError, BrokerError, OSError) as error:
            self._failure = str(error)
            return
        finally:
            self._leave = lambda: loop.call_soon_threadsafe(leave.set)
            self._started.set()
        await leave.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(broker.shutdown(), SHUTDOWN_TIMEOUT)


def event_line(event: Event) -> str:
    """Return one readable line about an event."""
    clock = rfc3339(event.time)[11:23]
    emotion = f"{event.emotion} {100 * event.probability:.0f} %"
    if event.type == "change":
        emotion = f"{event.previous} → {emotion}"
    tail = f", {event.duration:.1f} s" if event.duration is not None else ""
    why = f" ({event.reason})" if event.reason else ""
    face = event.face.id.rsplit("-", 1)[-1]
    return f"{clock}  {event.camera}  face {face:>3}  {event.type:<6}  {emotion}{tail}{why}"
