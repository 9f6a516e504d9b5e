"""One connection of the publisher: paho's client, what the broker answered, and the messages under way."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Literal, Protocol

from paho.mqtt import client as paho
from paho.mqtt.enums import MessageState, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.client import refusal
from edge.store import Message

#: Messages sent and not yet acknowledged, at most, unless the broker takes fewer …
IN_FLIGHT = 20
#: … and how many of them may be events, which a lost connection can deliver twice: no state waits behind them.
WINDOW = 16
#: Messages that nobody acknowledges and that wait for a slow connection, at most; more are dropped.
UNSENT = 32
#: Seconds without any acknowledgement, while one is due, after which the connection is given up.
ACK_TIMEOUT = 30.0
#: How long the broker may take to have said everything before the goodbye.
SILENCE = 0.2
SESSION_TAKEN_OVER = 0x8E
#: A refusal of one message that another try will not change (MQTT 5, 3.4.2.1); others are tried again.
FINAL_REFUSALS = {0x90, 0x95, 0x99}
#: How long an answer to a command may take to reach the broker before the next is sent, seconds.
ANSWERED = 1.0
#: Name of the property that tells runs of a daemon apart.
RUN = "run"
#: Bytes of a publish beside topic and payload, at most.
OVERHEAD = 16
#: Bytes of what marks a status as ours, or of an answer's properties beside their content, at most.
PROPERTIES = 48

#: What a broker can refuse beside events.
Refusable = Literal["subscription", "state", "answer"]


class Owner(Protocol):
    """Who has the connection and gets told what becomes of it; `not_taken`, `heard` and `lost` in any thread."""

    def acknowledged(self, message_id: str, seconds: float) -> None:
        """The broker has a message of the outbox, after so many seconds."""

    def refused(self, message_id: str, reason: object) -> None:
        """The broker will never take a message of the outbox."""

    def withheld(self, reason: ReasonCode) -> None:
        """The broker takes no messages of the outbox now."""

    def not_taken(self, what: Refusable, topic: str, reason: object) -> None:
        """The broker refused something else."""

    def heard(self, session: Session, message: paho.MQTTMessage) -> None:
        """A message came."""

    def lost(self, reason: ReasonCode) -> None:
        """A connection that was accepted is lost."""


class Session:
    """One connection.

    Args:
        owner: is told what happens.
        client: not yet connected.
        protocol: the version of MQTT that it speaks.
        status: topic of the states that tell which run of the daemon they are from.
        run: name of this run.
    """

    def __init__(self, owner: Owner, client: paho.Client, protocol: MQTTProtocolVersion, status: str, run: str) -> None:
        self.protocol = protocol
        self.client = client
        self.answered = threading.Event()
        self.gone = threading.Event()
        self.accepted = False
        self.refusal: int | None = None
        self.complaint = ""
        self.withheld = False
        self.taken_over = False
        self.again = False
        self.foreign = False
        self._owner = owner
        self._status = status
        self._run = run
        self._silent = threading.Event()
        self._subscribed: list[str] = []
        self._largest = float("inf")
        self._window = WINDOW
        # paho calls back under a lock that its publish() takes too. So the callbacks take none of ours: they only leave
        # a note, and everything about messages happens in the publisher's thread.
        self._notes: queue.SimpleQueue[tuple[int, ReasonCode, float]] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[str, float]] = {}
        # What else is under way, which other threads send too: by its number, what it is and its topic.
        self._lock = threading.Lock()
        self._others: dict[int, tuple[Refusable, str]] = {}
        # What nobody acknowledges and paho has not written yet; its publish() takes none of its locks for that.
        self._unsent_lock = threading.Lock()
        self._unsent: deque[paho.MQTTMessageInfo] = deque()
        self._closing = False
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe

    def full(self) -> bool:
        """Tell whether as many events are under way as may be."""
        return len(self._under_way) >= self._window

    def waiting(self) -> bool:
        """Tell whether an acknowledgement is due."""
        return bool(self._under_way)

    def overdue(self, now: float) -> bool:
        """Tell whether an acknowledgement is due for too long."""
        oldest = next(iter(self._under_way.values()), None)
        return oldest is not None and now - oldest[1] > ACK_TIMEOUT

    def deaf(self) -> bool:
        """Tell whether the thread that hears the broker has ended without a word, as paho's can."""
        thread = self.client._thread
        return not self.gone.is_set() and (thread is None or not thread.is_alive())

    def subscribe(self, topics: Iterable[str], as_published: Collection[str]) -> None:
        """Listen to topic filters, to some of them with the retain flag as it was published."""
        self._subscribed = list(topics)
        if self.protocol is MQTTProtocolVersion.MQTTv5:
            self.client.subscribe(
                [(t, SubscribeOptions(qos=1, retainAsPublished=t in as_published)) for t in self._subscribed]
            )
        else:
            self.client.subscribe([(topic, 1) for topic in self._subscribed])

    def tell(self, topic: str, payload: bytes) -> None:
        """Send a retained state."""
        if not self._fits(len(topic) + len(payload) + PROPERTIES):
            self._owner.not_taken("state", topic, self._too_large())
            return
        of_ours = self.protocol is MQTTProtocolVersion.MQTTv5 and topic == self._status
        properties = marked(PacketTypes.PUBLISH, self._run) if of_ours else None
        with self._lock:
            info = self.client.publish(topic, payload, qos=1, retain=True, properties=properties)
            self._others[info.mid] = "state", topic

    def answer(self, topic: str, payload: bytes, correlation: bytes | None) -> bool:
        """Send an answer to a command, and wait a moment until the broker has it.

        Returns:
            False if it is larger than what the broker takes, and was not sent.
        """
        if not self._fits(len(topic) + len(payload) + len(correlation or b"") + PROPERTIES):
            self._owner.not_taken("answer", topic, self._too_large())
            return False
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        with self._lock:
            info = self.client.publish(topic, payload, qos=1, properties=properties)
            self._others[info.mid] = "answer", topic
        with contextlib.suppress(ValueError, RuntimeError):  # the connection is lost; who asked may ask again
            info.wait_for_publish(ANSWERED)
        return True

    def publish(self, topic: str, message: Message, retain: bool) -> None:
        """Send a message of the outbox; one larger than the broker takes would cost the connection, each time anew."""
        sent = time.monotonic()
        if not self._fits(len(topic) + message.size):
            self._owner.refused(message.id, self._too_large())
            return
        info = self.client.publish(topic, message.payload, qos=1, retain=retain)
        self._under_way[info.mid] = (message.id, sent)

    def say(self, topic: str, payload: bytes) -> str:
        """Send something that nobody acknowledges (QoS 0); never waits, and lets no more than `UNSENT` wait.

        Returns:
            why it was dropped, one of `metrics.UNSAID`; empty if it was not.
        """
        if not self._fits(len(topic) + len(payload)):
            return "oversized"
        with self._unsent_lock:
            while self._unsent and self._unsent[0].is_published():
                self._unsent.popleft()
            if len(self._unsent) >= UNSENT:
                return "slow"
            info = self.client.publish(topic, payload, qos=0)
            if info.rc != paho.MQTT_ERR_SUCCESS:
                return "offline"
            self._unsent.append(info)
        return ""

    def settle(self, timeout: float = 0.0) -> None:
        """Act on the acknowledgements that have come, waiting up to `timeout` seconds for the first."""
        try:
            while True:
                self._settle(*self._notes.get(block=timeout > 0, timeout=timeout))
                timeout = 0.0
        except queue.Empty:
            return

    def close(self, for_good: bool = False) -> None:
        """Say goodbye, so that the last will stays unsaid, and end paho's thread.

        Args:
            for_good: no connection follows. If our last status is still in line behind messages that the broker does
                not acknowledge, it gets no goodbye: the last will must say that we are gone.
        """
        self._closing = True
        # A socket that is closed with something unread resets the connection, and the broker can lose the goodbye to
        # that. Its answer to this is the last that it sends.
        if self._subscribed and self.accepted and not self.gone.is_set():
            self.client.unsubscribe(self._subscribed)
            self._silent.wait(SILENCE)
        if for_good and self._status_waits():
            self._hang_up()
        self.client.disconnect()
        self.client.loop_stop()

    def _status_waits(self) -> bool:
        """Tell whether a status was not sent yet, because so much is under way."""
        with self._lock:
            numbers = [number for number, (_, topic) in self._others.items() if topic == self._status]
        waiting = [self.client._out_messages.get(number) for number in numbers]
        return any(message is not None and message.state == MessageState.MQTT_MS_QUEUED for message in waiting)

    def _hang_up(self) -> None:
        """End the connection without a word."""
        connection: Any = self.client.socket()
        connection = getattr(connection, "_socket", connection)  # that below paho's websockets
        with contextlib.suppress(OSError, TypeError):  # there is none any more
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own would take it from paho's thread

    def _fits(self, size: int) -> bool:
        return size + OVERHEAD <= self._largest

    def _too_large(self) -> str:
        return f"larger than the {self._largest:g} bytes that it takes"

    def _settle(self, mid: int, reason: ReasonCode, answered: float) -> None:
        message_id, sent = self._under_way.pop(mid, (None, 0.0))
        if message_id is None:
            self._settle_other(mid, reason)
        elif not reason.is_failure:
            self._owner.acknowledged(message_id, answered - sent)
        elif reason.value in FINAL_REFUSALS:
            self._owner.refused(message_id, reason)
        else:
            self.withheld = True
            self._owner.withheld(reason)
            self._end()

    def _settle_other(self, mid: int, reason: ReasonCode) -> None:
        with self._lock:  # who sends it has it until it is noted
            what, topic = self._others.pop(mid, ("state", ""))
        if reason.is_failure:
            self._owner.not_taken(what, topic, reason)

    def _on_connect(self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, properties: Any) -> None:
        self._largest = getattr(properties, "MaximumPacketSize", None) or self._largest
        # More than it takes at once, and it would end the connection; paho does not look at that by itself, and its
        # setter refuses once connected.
        most = min(IN_FLIGHT, getattr(properties, "ReceiveMaximum", None) or IN_FLIGHT)
        self.client._max_inflight_messages = most
        self._window = max(1, most * WINDOW // IN_FLIGHT)
        self.accepted = not reason.is_failure
        if reason.is_failure:
            self.refusal = reason.value
            self.complaint = refusal(reason)
        self.answered.set()

    def _on_disconnect(self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.value == SESSION_TAKEN_OVER:
            self.taken_over = True
        elif self.accepted and not self._closing:
            self._owner.lost(reason)
        self._end()

    def _on_publish(self, _c: paho.Client, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        self._notes.put((mid, reason, time.monotonic()))

    def _on_message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        self._owner.heard(self, message)

    def _on_subscribe(self, _c: paho.Client, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        for topic, reason in zip(self._subscribed, reasons, strict=False):
            if reason.is_failure:
                self._owner.not_taken("subscription", topic, reason)

    def _on_unsubscribe(self, *_: Any) -> None:
        self._silent.set()

    def _end(self) -> None:
        self.gone.set()
        self._silent.set()
        self.answered.set()


def marked(packet: int, run: str) -> Properties:
    """Return the properties of a packet that tell which run of the daemon it is from."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.UserProperty = (RUN, run)
    return properties


def run_of(message: paho.MQTTMessage) -> str | None:
    """Return which run of a daemon a status is from; none if it does not say."""
    properties = getattr(message.properties, "UserProperty", None) or []
    return dict(properties).get(RUN)
