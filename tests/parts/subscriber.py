"""An MQTT client that writes down what it gets."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.parts import HOST
from tests.parts.schema import validate


@dataclass(frozen=True)
class Message:
    """A message as it came.

    Attributes:
        topic: its topic.
        payload: its decoded JSON; None if it is empty, the bytes if it is no JSON.
        retain: whether it is one that the broker had kept from before.
        time: when it came, on the monotonic clock.
        raw: the bytes of the payload.
        qos: the quality of service it came with.
    """

    topic: str
    payload: Any
    retain: bool
    time: float
    raw: bytes
    qos: int


class Subscriber:
    """Subscribes to `topics` with QoS 1 over MQTT 5 and keeps the messages in the order they came.

    It connects again as soon as a lost broker is back; a broker that persists keeps messages for it meanwhile. At its
    end, unless that is a failure, everything that it got must keep to the schemas.

    Args:
        port: of the broker on this machine.
        topics: topic filters.
        user: the user name, if the broker wants one.
        password: the password.

    Attributes:
        sends_anything: whether what was sent by a `Subscriber` need not keep to the schemas.
    """

    sends_anything: ClassVar[bool] = False
    _sent: ClassVar[set[tuple[str, bytes]]] = set()

    def __init__(
        self, port: int, topics: tuple[str, ...] = ("#",), user: str | None = None, password: str | None = None
    ) -> None:
        self.port = port
        self._topics = topics
        self._messages: list[Message] = []
        self._subscriptions = 0
        self._refusal = ""
        self._changed = threading.Condition()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"subscriber-{uuid.uuid4()}",
            protocol=mqtt.MQTTv5,
        )
        self._client.username_pw_set(user, password)
        self._client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]  # seconds, fractions work
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def start(self) -> Subscriber:
        """Connect and wait until the broker has confirmed the subscription."""
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect(HOST, self.port, clean_start=False, properties=session)
        self._client.loop_start()
        self.wait_subscribed()
        return self

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def check_schemas(self) -> None:
        """Check every message of daemons so far against the schemas that ship.

        Raises:
            jsonschema.ValidationError: one breaks its schema.
            FileNotFoundError: one is on a topic that has none.
        """
        got = {(m.topic, m.raw): m for m in [*self.on("emotion/#"), *self.on("homeassistant/device/+/config")] if m.raw}
        for key, message in got.items():
            if not (self.sends_anything and key in self._sent):
                validate(message.topic, message.payload)

    @property
    def messages(self) -> list[Message]:
        """All messages so far, in order."""
        with self._changed:
            return list(self._messages)

    @property
    def subscriptions(self) -> int:
        """How many times the broker has confirmed the subscription: once more after each reconnect."""
        return self._subscriptions

    def on(self, topic: str) -> list[Message]:
        """Return the messages so far whose topic matches a topic filter, in order."""
        return [message for message in self.messages if mqtt.topic_matches_sub(topic, message.topic)]

    def publish(
        self, topic: str, payload: Any, *, qos: int = 1, retain: bool = False, properties: Properties | None = None
    ) -> None:
        """Send `payload` (bytes as they are, anything else as JSON) and wait until the broker has it."""
        self._publish(topic, payload, qos, retain, properties).wait_for_publish(30)

    def send(self, topic: str, payload: Any) -> None:
        """Send `payload` without waiting."""
        self._publish(topic, payload, 1, False, None)

    def _publish(
        self, topic: str, payload: Any, qos: int, retain: bool, properties: Properties | None
    ) -> mqtt.MQTTMessageInfo:
        content = payload if isinstance(payload, bytes) else json.dumps(payload)
        self._sent.add((topic, content.encode() if isinstance(content, str) else content))
        return self._client.publish(topic, content, qos, retain, properties)

    def wait_subscribed(self, more_than: int = 0, timeout: float = 30) -> None:
        """Wait for the next confirmed subscription: `more_than` is the number of them before the broker went."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._subscriptions > more_than, timeout)
        assert done, f"no subscription within {timeout:g} s: {self._refusal or 'no answer from the broker'}"

    def wait_for(
        self, predicate: Callable[[Message], bool], timeout: float = 30, what: str = "such message", start: int = 0
    ) -> Message:
        """Return the first message for which `predicate` holds, waiting up to `timeout` seconds for it.

        Args:
            predicate: tells whether a message is the one.
            timeout: seconds.
            what: named in the message when none comes.
            start: number of messages to pass over, such as `len(subscriber.messages)` for new ones only.

        Raises:
            AssertionError: none has come in time.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                for message in self._messages[start:]:
                    if predicate(message):
                        return message
                start = max(start, len(self._messages))
                left = end - time.monotonic()
                if left <= 0:
                    last = "\n".join(f"  {message.topic} {message.payload}" for message in self._messages[-10:])
                    raise AssertionError(f"no {what} within {timeout:g} s; the last messages were:\n{last or '  none'}")
                self._changed.wait(left)

    def wait_for_farewell(self, node: str = "test", timeout: float = 30) -> None:
        """Wait for what a daemon says last when it stops: whatever it sent before is there by then."""
        farewell = {"state": "offline", "reason": "stopped"}
        self.wait_for(lambda m: m.topic.endswith(f"/{node}/status") and m.payload == farewell, timeout, "farewell")

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        if not reason.is_failure:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._topics])

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, _reasons: Any, _properties: Any) -> None:
        with self._changed:
            self._subscriptions += 1
            self._changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        now = time.monotonic()
        raw = bytes(message.payload)
        kept = Message(message.topic, _decoded(raw), message.retain, now, raw, message.qos)
        with self._changed:
            self._messages.append(kept)
            self._changed.notify_all()

    def __enter__(self) -> Subscriber:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.check_schemas()


def _decoded(payload: bytes) -> Any:
    if not payload:
        return None
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload
