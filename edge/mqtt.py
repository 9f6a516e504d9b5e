"""The only file that speaks to the broker.

One thread connects, sends the last values of all states, then events from the outbox in order. MQTT 5 first, 3.1.1 for
a broker that refuses version 5, or does not answer it. Every connection uses a client of its own: paho keeps nothing
that is not in the outbox too. What is listened to comes in paho's thread.

Our status and last will carry, as a property that is no part of the payload, which run of the daemon they are from:
one of another run that is there when we come back shows that another program uses our name.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.commands import Request
from edge.events import Event, decode_event, state
from edge.metrics import Metrics
from edge.outbox import Outbox
from edge.settings import MqttSettings, MqttTlsSettings, SettingsError
from edge.store import Message

log = logging.getLogger(__name__)

#: Events sent and not yet acknowledged, at most: what a lost connection can deliver twice.
#: Fewer than paho's own 20, so that a state never waits behind them.
WINDOW = 16
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 3.0
#: Seconds without any acknowledgement, while one is due, after which the connection is given up.
ACK_TIMEOUT = 30.0
#: An attempt to connect, or one pass of publishing, that takes longer than this is no progress.
STUCK = 30.0
#: What is left for the goodbye when delivering has used up the time to stop.
LEAST_FAREWELL = 0.3
#: How long the broker may take to have said everything before the goodbye.
SILENCE = 0.2
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
JITTER = 0.2
UNSUPPORTED_VERSION = 0x84
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
EVENTS_WITHHELD = "broker: does not take events now (not allowed, or over its quota); they are kept, trying again"
#: What is retained of a camera.
RETAINED = ("status", "emotion", "summary")
#: What the topics of daemons end in, where no answer to a command may go.
OWN_LEVELS = ("status", "event", "emotion", "summary", "faces", "set")
LAST_WILL = state("offline", reason="lost")

#: Gets what came on a topic that is listened to; called in paho's thread, so it must not wait.
Listener = Callable[[paho.MQTTMessage], None]


class Publisher:
    """Publishes states and events.

    Args:
        settings: of the broker.
        node: name of the node.
        outbox: where events wait.
        metrics: counts what happens.
        published: called, in the publisher's thread, with each event that the broker acknowledged.
    """

    def __init__(
        self,
        settings: MqttSettings,
        node: str,
        outbox: Outbox,
        metrics: Metrics,
        published: Callable[[Event], None] | None = None,
    ) -> None:
        self.connected = threading.Event()
        self.base = f"{settings.base}/{node}"
        self._settings = settings
        self._node = node
        self._outbox = outbox
        self._metrics = metrics
        self._published = published
        self._states: dict[str, bytes] = {}
        self._status = f"{self.base}/status"
        self._listeners: dict[str, Listener] = {self._status: self._own_status}
        self._as_published: set[str] = set()
        self._run_name = secrets.token_hex(8)
        self._visited: set[int] = set()
        self._foreign = 0
        self._contested = False
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._addresses = settings.addresses
        self._at = 0
        self._protocols = [MQTTProtocolVersion.MQTTv5] * len(self._addresses)
        self._tls = tls_context(settings.tls) if settings.tls else None
        self._session: _Session | None = None
        self._connections = 0
        self._complaint = ""
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        if self._settings.tls is not None and self._settings.tls.insecure:
            log.warning("broker: mqtt.tls.insecure takes any certificate; name the authority's as mqtt.tls.ca")
        self._thread.start()

    def stop(self, timeout: float) -> int:
        """Deliver what waits, for at most `timeout` seconds, say `offline`, leave; returns the events left behind."""
        deadline = time.monotonic() + timeout
        if self.connected.is_set():
            self._outbox.wait_empty(timeout)
        self.set_state("status", state("offline", reason="stopped"))
        self._leave.set()
        self._thread.join(max(LEAST_FAREWELL, deadline - time.monotonic()))
        return len(self._outbox)

    def dead(self) -> bool:
        """Tell whether the thread has ended although nobody asked it to."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._leave.is_set()

    def stuck(self, now: float) -> bool:
        """Tell whether the thread has been inside one attempt to connect, or one publish, for too long."""
        since = self._busy_since
        # paho gives a TLS handshake as long as the keep-alive.
        limit = STUCK + (self._settings.keepalive if self._tls else 0)
        return since is not None and now - since > limit

    def listen(self, topic: str, listener: Listener, as_published: bool = False) -> None:
        """Subscribe to a topic filter at each connection; before `start`.

        Args:
            topic: a topic filter.
            listener: called with each message, in paho's thread; must not wait.
            as_published: show a message that is published as retained as such even if it is new (MQTT 5 only).
        """
        self._listeners[topic] = listener
        if as_published:
            self._as_published.add(topic)

    def set_state(self, topic: str, payload: bytes) -> None:
        """Keep `payload` as the retained value of `topic` (below `<base>/<node>/`) and send it if connected."""
        self.set_retained(f"{self.base}/{topic}", payload)

    def set_retained(self, topic: str, payload: bytes) -> None:
        """Keep `payload` as the retained value of `topic`, wherever it is, and send it if connected."""
        with self._lock:
            self._states[topic] = payload
            if self._session is not None and self.connected.is_set():
                self._session.tell(topic, payload)

    def clear(self, topics: Iterable[str]) -> None:
        """Clear what is retained on topics, once."""
        with self._lock:
            for topic in topics:
                if self._session is not None:
                    self._session.tell(topic, b"")

    def states(self) -> dict[str, bytes]:
        """Return the retained values below `<base>/<node>/`, by topic below it."""
        with self._lock:
            start = f"{self.base}/"
            return {k.removeprefix(start): v for k, v in self._states.items() if k.startswith(start)}

    def answer(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        """Send an answer to a command, once, waiting a moment for its acknowledgement so that answers never pile up."""
        with self._lock:
            session = self._session
        if session is not None:
            session.answer(topic, payload, correlation)

    def _run(self) -> None:
        attempt = 0
        while not self._leave.is_set():
            self._busy_since = time.monotonic()
            session = _Session(self, self._protocols[self._at])
            again_at_once = self._connect(session)
            if session.accepted:
                self._serve(session)
            session.close()
            session.settle()
            self._outbox.withdraw()
            if session.accepted and not session.withheld and not self._is_contested(session):
                attempt = 0
            elif not again_at_once:
                self._at = (self._at + 1) % len(self._addresses)
                again_at_once = self._at > 0  # the pause comes when all have been tried
            self._busy_since = None
            if not again_at_once and not self._leave.is_set():
                pause = BACK_OFF[min(attempt, len(BACK_OFF) - 1)]
                attempt += 1
                self._leave.wait(pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    def _connect(self, session: _Session) -> bool:
        """Connect and wait for the answer; tells whether to try again at once, with the older protocol."""
        host, port = self._addresses[self._at]
        where = f"broker {host}:{port}"
        try:
            session.client.connect(host, port, self._settings.keepalive)
        except (OSError, ValueError, paho.WebsocketConnectionError) as error:
            self._complain(f"{where}: {connection_failure(error, self._tls is not None)}; trying again")
            return False
        session.client.loop_start()
        session.answered.wait(ANSWER_TIMEOUT)
        if session.accepted:
            version = "5" if session.protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1"
            log.log(logging.DEBUG if self._contested else logging.INFO, "%s: connected (MQTT %s)", where, version)
            self._complaint = "" if self._complaint != EVENTS_WITHHELD else self._complaint
            return False
        if session.refusal == UNSUPPORTED_VERSION and session.protocol is MQTTProtocolVersion.MQTTv5:
            log.info("%s: speaks no MQTT 5, using 3.1.1", where)
            self._protocols[self._at] = MQTTProtocolVersion.MQTTv311
            return True
        if session.refusal is None and session.protocol is MQTTProtocolVersion.MQTTv5:
            # A broker of 3.1.1 can misread a CONNECT of version 5 that carries a will, and answer nothing (amqtt 0.12).
            self._protocols[self._at] = MQTTProtocolVersion.MQTTv311
            return True
        if session.refusal is None:
            self._protocols[self._at] = MQTTProtocolVersion.MQTTv5
        self._complain(f"{where}: {session.complaint or 'no answer to the connection request'}; trying again")
        return False

    def _complain(self, line: str) -> None:
        """Log a failure once, not at every try, and each of several brokers' too."""
        if line not in self._complaint.splitlines() and not self._leave.is_set():
            log.warning("%s", line)
            self._complaint = "\n".join([*self._complaint.splitlines(), line][-len(self._addresses) :])

    def _serve(self, session: _Session) -> None:
        """Publish over one connection until it is lost or we leave."""
        self._connections += 1
        if self._connections > 1:
            self._metrics.mqtt_reconnects.inc()
        session.again = self._at in self._visited
        self._visited.add(self._at)
        with self._lock:
            # First, so that what is retained from before shows.
            session.subscribe(self._listeners, self._as_published)
            self._session = session
            self.connected.set()
            for topic, payload in self._states.items():
                session.tell(topic, payload)
        self._metrics.mqtt_connected.set(1)
        while not session.lost.is_set() and not self._leave.is_set():
            self._busy_since = time.monotonic()
            session.settle()
            if session.deaf():
                self._complain("broker: the network thread died; connecting again")
                session.withheld = True
                break
            if session.overdue(time.monotonic()):
                self._complain(f"broker: no acknowledgement for {ACK_TIMEOUT:.0f} s; connecting again")
                break
            if session.full():
                session.settle(timeout=0.2)
                continue
            message = self._outbox.offer(timeout=0.02 if session.waiting() else 0.2)
            if message is not None:
                session.publish(f"{self.base}/{message.camera}/{message.kind}", message)
        with self._lock:
            self._session = None
            self.connected.clear()
        self._metrics.mqtt_connected.set(0)

    def acknowledged(self, message_id: str, seconds: float) -> None:
        """The broker has the message."""
        self._metrics.publish_ack.observe(seconds)
        message = self._outbox.acknowledge(message_id)
        if message is not None and message.kind == "event" and self._published is not None:
            self._published(decode_event(message.payload))

    def refused(self, message_id: str, reason: object) -> None:
        """The broker will never take the message."""
        if self._outbox.refuse(message_id, str(reason)):
            self._metrics.events_dropped["refused"].inc()
            log.warning("broker refused %s for good: %s; set aside, see emotion-edge outbox ls", message_id, reason)

    def withheld(self, reason: ReasonCode) -> None:
        """The broker does not take events now; they are kept."""
        log.debug("broker: %s", reason)
        self._complain(EVENTS_WITHHELD)

    def heard(self, session: _Session, message: paho.MQTTMessage) -> None:
        """Hand what came to who listens to it."""
        if message.topic == self._status and run_of(message) not in (None, self._run_name):
            session.foreign = session.again
        for topic, listener in self._listeners.items():
            if paho.topic_matches_sub(topic, message.topic):
                listener(message)

    def _is_contested(self, session: _Session) -> bool:
        """Tell whether another program uses our name, so that each of us ends the other's connection; says so once.

        Brokers that tell why they ended a connection are believed. The others show a status of another run whenever we
        come back. Once only, that can be one that a broker had on its disk and that ours had replaced since.
        """
        self._foreign = self._foreign + 1 if session.foreign else 0
        contested = session.taken_over or self._foreign > 1
        if contested and not self._contested:
            log.error(
                "broker: another program connects as node %s; give each a `node` of its own (trying again, more and "
                "more seldom)",
                self._node,
            )
        self._contested = contested
        return contested

    def _own_status(self, message: paho.MQTTMessage) -> None:
        """Overrule another status than ours, such as a last will of an earlier connection that came late."""
        if message.retain:  # from before we connected; ours has just been sent
            return
        with self._lock:
            mine, session = self._states.get(self._status), self._session
            if mine is not None and message.payload != mine and session is not None and not self._leave.is_set():
                session.tell(self._status, mine)

    def wants_to_hear_of_losses(self) -> bool:
        """Tell whether a lost connection is worth a line: not if we leave, or if the reason was told already."""
        return not self._leave.is_set() and not self._contested

    def marked(self, packet: int) -> Properties:
        """Return the properties of a packet that tell which run of the daemon it is from."""
        properties = Properties(packet)  # type: ignore[no-untyped-call]
        properties.UserProperty = (RUN, self._run_name)
        return properties

    def make_client(self, protocol: MQTTProtocolVersion) -> paho.Client:
        """Return a client with login and last will, not yet connected."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"emotion-edge-{self._node}",
            protocol=protocol,
            transport=self._settings.transport,
            reconnect_on_failure=False,  # or its thread waits a second before it ends
        )
        if self._settings.transport == "websockets":
            client.ws_set_options(self._settings.path)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._settings.username is not None:
            password = self._settings.password
            client.username_pw_set(self._settings.username, password.get_secret_value() if password else None)
        marked = self.marked(PacketTypes.WILLMESSAGE) if protocol is MQTTProtocolVersion.MQTTv5 else None
        client.will_set(self._status, LAST_WILL, qos=1, retain=True, properties=marked)
        client.connect_timeout = CONNECT_TIMEOUT
        return client


def run_of(message: paho.MQTTMessage) -> str | None:
    """Return which run of a daemon a status is from; none if it does not say."""
    properties = getattr(message.properties, "UserProperty", None) or []
    return dict(properties).get(RUN)


def tls_context(settings: MqttTlsSettings) -> ssl.SSLContext:
    """Return how to encrypt.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            # A key with a passphrase would be asked for at the terminal.
            context.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(path) for path in settings.files.values())
        raise SettingsError(f"mqtt.tls: {files}: {error}; name PEM files, the key without a passphrase") from None
    if settings.alpn:
        context.set_alpn_protocols(list(settings.alpn))
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connection_failure(error: Exception, encrypted: bool) -> str:
    """Say what failed, and what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message} (check mqtt.tls.ca and the host's name)"
    if isinstance(error, ssl.SSLError | ConnectionResetError) and encrypted:
        return f"no TLS: {error} (check mqtt.port, mqtt.tls)"
    return str(error)


def listen_for_commands(publisher: Publisher, receive: Callable[[Request, bool], None]) -> None:
    """Hand what is sent to the node or its cameras to `receive`, with whether it is retained; before `start`."""
    above = publisher.base.rpartition("/")[0]

    def listener(message: paho.MQTTMessage) -> None:
        target = message.topic.removesuffix("/set")
        camera = None if target == publisher.base else target.removeprefix(f"{publisher.base}/")
        wanted = getattr(message.properties, "ResponseTopic", None)
        correlation = getattr(message.properties, "CorrelationData", None)
        answer_to = wanted if wanted is not None and may_answer_to(above, wanted) else f"{target}/response"
        receive(Request(camera, bytes(message.payload), answer_to, correlation), message.retain)

    for topic in (f"{publisher.base}/set", f"{publisher.base}/+/set"):
        publisher.listen(topic, listener, as_published=True)


def clear_removed_cameras(publisher: Publisher, cameras: Collection[str]) -> None:
    """Clear what is retained of cameras that the node had once and has no more; before `start`."""

    def listener(message: paho.MQTTMessage) -> None:
        camera = message.topic.split("/")[-2]
        if message.retain and message.payload and camera not in cameras:
            publisher.clear([f"{publisher.base}/{camera}/{kind}" for kind in RETAINED])

    publisher.listen(f"{publisher.base}/+/status", listener)


def may_answer_to(base: str, topic: str) -> bool:
    """Tell whether an answer may go to a topic: one below `base` at which no daemon publishes or listens."""
    level = topic.rpartition("/")[2]
    return topic.startswith(f"{base}/") and not set("+#\0") & set(topic) and level not in OWN_LEVELS


class _Session:
    """One connection: paho's client, its answer, and the events under way."""

    def __init__(self, publisher: Publisher, protocol: MQTTProtocolVersion) -> None:
        self.protocol = protocol
        self.client = publisher.make_client(protocol)
        self.answered = threading.Event()
        self.lost = threading.Event()
        self.silent = threading.Event()
        self.accepted = False
        self.refusal: int | None = None
        self.complaint = ""
        self.withheld = False
        self.taken_over = False
        self.again = False
        self.foreign = False
        self._publisher = publisher
        self._subscribed: list[str] = []
        self._largest = float("inf")
        # paho calls back under a lock that its publish() takes too. So the callback takes none of ours: it only leaves
        # a note, and everything about events happens in the publisher's thread.
        self._answers: queue.SimpleQueue[tuple[int, ReasonCode, float]] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[str, float]] = {}
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message
        self.client.on_unsubscribe = self._on_unsubscribe

    def full(self) -> bool:
        """Tell whether as many events are under way as may be."""
        return len(self._under_way) >= WINDOW

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
        return not self.lost.is_set() and (thread is None or not thread.is_alive())

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
        if len(topic) + len(payload) + OVERHEAD + PROPERTIES > self._largest:
            log.warning("broker: takes %g bytes at most, not the %d on %s", self._largest, len(payload), topic)
            return
        marked = self._publisher.marked(PacketTypes.PUBLISH) if self._marks(topic) else None
        self.client.publish(topic, payload, qos=1, retain=True, properties=marked)

    def answer(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        """Send an answer to a command, and wait a moment until the broker has it."""
        if len(topic) + len(payload) + len(correlation or b"") + OVERHEAD + PROPERTIES > self._largest:
            return
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        info = self.client.publish(topic, payload, qos=1, properties=properties)
        with contextlib.suppress(ValueError, RuntimeError):  # the connection is lost; who asked may ask again
            info.wait_for_publish(ANSWERED)

    def _marks(self, topic: str) -> bool:
        return self.protocol is MQTTProtocolVersion.MQTTv5 and topic == f"{self._publisher.base}/status"

    def publish(self, topic: str, message: Message) -> None:
        """Send a message of the outbox; one larger than the broker takes would cost the connection, each time anew."""
        sent = time.monotonic()
        if len(topic) + message.size + OVERHEAD > self._largest:
            self._publisher.refused(message.id, f"larger than the {self._largest} bytes that the broker takes")
            return
        info = self.client.publish(topic, message.payload, qos=1, retain=message.kind == "summary")
        self._under_way[info.mid] = (message.id, sent)

    def settle(self, timeout: float = 0.0) -> None:
        """Act on the acknowledgements that have come, waiting up to `timeout` seconds for the first."""
        try:
            while True:
                self._settle(*self._answers.get(block=timeout > 0, timeout=timeout))
                timeout = 0.0
        except queue.Empty:
            return

    def _settle(self, mid: int, reason: ReasonCode, answered: float) -> None:
        event_id, sent = self._under_way.pop(mid, (None, 0.0))
        if event_id is None:  # a state's
            return
        if not reason.is_failure:
            self._publisher.acknowledged(event_id, answered - sent)
        elif reason.value in FINAL_REFUSALS:
            self._publisher.refused(event_id, reason)
        else:
            self.withheld = True
            self._publisher.withheld(reason)
            self._end()

    def close(self) -> None:
        """Say goodbye, so that the last will stays unsaid, and end paho's thread."""
        # A socket that is closed with something unread resets the connection, and the broker can lose the goodbye to
        # that. Its answer to this is the last that it sends.
        if self.accepted and not self.lost.is_set():
            self.client.unsubscribe(self._subscribed)
            self.silent.wait(SILENCE)
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, properties: Any) -> None:
        self._largest = getattr(properties, "MaximumPacketSize", None) or self._largest
        self.accepted = not reason.is_failure
        if reason.is_failure:
            self.refusal = reason.value
            remedy = " (check mqtt.username and mqtt.password)" if reason.value in (0x86, 0x87) else ""
            self.complaint = f"refused the connection: {reason}{remedy}"
        self.answered.set()

    def _on_disconnect(self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.value == SESSION_TAKEN_OVER:
            self.taken_over = True
        elif self.accepted and self._publisher.wants_to_hear_of_losses():
            log.warning("broker: connection lost (%s)", reason)
        self._end()

    def _on_publish(self, _c: paho.Client, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        self._answers.put((mid, reason, time.monotonic()))

    def _on_message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        self._publisher.heard(self, message)

    def _on_unsubscribe(self, *_: Any) -> None:
        self.silent.set()

    def _end(self) -> None:
        self.lost.set()
        self.silent.set()
        self.answered.set()
