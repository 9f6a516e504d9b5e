"""Publishes: one thread connects, sends the last values of all states, then events from the outbox in order.

MQTT 5 first, 3.1.1 for a broker that refuses version 5, or does not answer it. Every connection uses a client of its
own: paho keeps nothing that is not in the outbox too. What is listened to comes in paho's thread.

Our status and last will carry, as a property that is no part of the payload, which run of the daemon they are from:
one of another run that is there when we come back shows that another program uses our name.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.client import ANSWER_TIMEOUT, UNSUPPORTED_VERSION, BrokerError, connect, make_client, tls_context
from edge.commands import Request
from edge.events import RETAINED, Event, decode_event, state
from edge.metrics import Metrics
from edge.outbox import Outbox
from edge.seldom_log import SeldomLog
from edge.session import ACK_TIMEOUT, Refusable, Session, marked, run_of
from edge.settings import MqttSettings, SettingsError

log = logging.getLogger(__name__)

#: An attempt to connect, or one pass of publishing, that takes longer than this is no progress.
STUCK = 30.0
#: What is left for the goodbye when delivering has used up the time to stop.
LEAST_FAREWELL = 0.3
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
JITTER = 0.2
EVENTS_WITHHELD = "broker: does not take events now (not allowed, or over its quota); they are kept, trying again"
#: What a broker that does not take something is said to do, and what to look at.
NOT_TAKEN: dict[Refusable, str] = {
    "subscription": "does not let us listen to {topic} ({reason}); check its access lists",
    "state": "does not take what is retained at {topic} ({reason}); check its access lists and limits",
    # Who asked has named the topic, which is therefore not said.
    "answer": "does not take answers to commands ({reason}); check its access lists and limits",
}
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
        cameras: those of the settings, kept up to date by the caller; summaries of others, which can come late, are not
            retained.
    """

    def __init__(
        self,
        settings: MqttSettings,
        node: str,
        outbox: Outbox,
        metrics: Metrics,
        published: Callable[[Event], None] | None = None,
        cameras: Collection[str] = (),
    ) -> None:
        self.connected = threading.Event()
        self.base = f"{settings.base}/{node}"
        self._settings = settings
        self._node = node
        self._outbox = outbox
        self._metrics = metrics
        self._published = published
        self._cameras = cameras
        self._states: dict[str, bytes] = {}
        self._to_clear: set[str] = set()
        self._summaries: dict[str, bytes] = {}
        self._status = f"{self.base}/status"
        self._listeners: dict[str, Listener] = {self._status: self._own_status}
        self._as_published: set[str] = set()
        self._run_name = secrets.token_hex(8)
        self._visited: set[int] = set()
        self._foreign = 0
        self._contested = False
        self._contradicted = threading.Event()
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._given_up = False
        self._addresses = settings.addresses
        self._at = 0
        self._protocols = [MQTTProtocolVersion.MQTTv5] * len(self._addresses)
        self._tls = tls_context(settings.tls) if settings.tls else None
        self._session: Session | None = None
        self._say_seldom = SeldomLog(log)
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
        self._given_up = self._thread.is_alive()
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

    def say(self, topic: str, payload: bytes) -> None:
        """Send `payload` to `topic` (below `<base>/<node>/`) once, or drop it, and count that; never waits."""
        session = self._session  # without the lock, which states that are being sent may have
        unsaid = "offline"
        if session is not None and not self._leave.is_set():
            unsaid = session.say(f"{self.base}/{topic}", payload)
        if unsaid:
            self._metrics.faces_unsaid[unsaid].inc()

    def clear(self, topics: Iterable[str]) -> None:
        """Clear what is retained on topics, once: now, or at the next connection."""
        with self._lock:
            if self._session is None:
                self._to_clear.update(topics)
                return
            for topic in topics:
                self._session.tell(topic, b"")

    def forget_camera(self, camera: str) -> None:
        """Keep and retain nothing more of a camera; what cannot be cleared now is at the next connection."""
        topics = [f"{self.base}/{camera}/{kind}" for kind in RETAINED]
        with self._lock:
            for topic in topics:
                self._states.pop(topic, None)
                self._summaries.pop(topic, None)
        self.clear(topics)

    def states(self) -> dict[str, bytes]:
        """Return the retained values below `<base>/<node>/`, by topic below it."""
        with self._lock:
            start = f"{self.base}/"
            return {k.removeprefix(start): v for k, v in self._states.items() if k.startswith(start)}

    def answer(self, topic: str, payload: bytes, correlation: bytes | None) -> bool:
        """Send an answer to a command, once, waiting a moment for its acknowledgement so that answers never pile up.

        Returns:
            False if it is larger than what the broker takes.
        """
        with self._lock:
            session = self._session
        return session is None or session.answer(topic, payload, correlation)

    def _run(self) -> None:
        attempt = 0
        while not self._leave.is_set():
            self._busy_since = time.monotonic()
            session = self._make_session(self._protocols[self._at])
            again_at_once = self._connect(session)
            if session.accepted:
                self._serve(session)
            session.close(for_good=self._leave.is_set())
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

    def _connect(self, session: Session) -> bool:
        """Connect and wait for the answer; tells whether to try again at once, with the older protocol."""
        host, port = self._addresses[self._at]
        where = f"broker {host}:{port}"
        try:
            connect(session.client, self._settings, host, port)
        except BrokerError as error:
            self._complain(f"{where}: {error}; trying again")
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

    def _serve(self, session: Session) -> None:
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
            # The last summaries too, which a broker can have forgotten: newer ones that wait come after them.
            retained = {**self._states, **self._summaries}
            for topic in self._to_clear - retained.keys():
                session.tell(topic, b"")
            self._to_clear.clear()
            for topic, payload in retained.items():
                session.tell(topic, payload)
        self._metrics.mqtt_connected.set(1)
        while not session.gone.is_set() and not self._leave.is_set():
            self._busy_since = time.monotonic()
            session.settle()
            if self._contradicted.is_set():
                self._contradicted.clear()
                with self._lock:
                    session.tell(self._status, self._states[self._status])
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
                with self._lock:  # so that a camera that is removed now is cleared after its summary
                    retain = message.kind == "summary" and message.camera in self._cameras
                    session.publish(f"{self.base}/{message.camera}/{message.kind}", message, retain)
        with self._lock:
            self._session = None
            self.connected.clear()
        self._metrics.mqtt_connected.set(0)

    def acknowledged(self, message_id: str, seconds: float) -> None:
        """The broker has the message."""
        self._metrics.publish_ack.observe(seconds)
        message = self._outbox.acknowledge(message_id)
        if message is None:
            return
        if message.kind == "summary":
            with self._lock:
                if message.camera in self._cameras:
                    self._summaries[f"{self.base}/{message.camera}/summary"] = message.payload
        elif self._published is not None:
            self._published(decode_event(message.payload))

    def refused(self, message_id: str, reason: object) -> None:
        """The broker will never take the message."""
        if self._outbox.refuse(message_id, str(reason)):
            self._metrics.events_dropped["refused"].inc()
            line = "%s: refused %s for good: %s; set aside, see emotion-edge outbox ls --refused"
            log.warning(line, "broker", message_id, reason)

    def withheld(self, reason: ReasonCode) -> None:
        """The broker does not take events now; they are kept."""
        log.debug("broker: %s", reason)
        self._complain(EVENTS_WITHHELD)

    def not_taken(self, what: Refusable, topic: str, reason: object) -> None:
        """The broker refused a subscription, a state or an answer: said, but not each time, and counted."""
        self._metrics.mqtt_refusals[what].inc()
        self._say_seldom(f"broker: {NOT_TAKEN[what].format(topic=topic, reason=reason)}")

    def lost(self, reason: ReasonCode) -> None:
        """The connection is lost: worth a line unless we leave, or the reason was told already."""
        if not self._leave.is_set() and not self._contested:
            log.warning("broker: connection lost (%s)", reason)

    def heard(self, session: Session, message: paho.MQTTMessage) -> None:
        """Hand what came to who listens to it."""
        if message.topic == self._status and run_of(message) not in (None, self._run_name):
            session.foreign = session.again
        for topic, listener in self._listeners.items():
            if paho.topic_matches_sub(topic, message.topic):
                listener(message)

    def _is_contested(self, session: Session) -> bool:
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
            mine = self._states.get(self._status)
        if mine is not None and message.payload != mine and not self._leave.is_set():
            self._contradicted.set()  # however often, it is answered no faster than answers are taken

    def _stay_away(self, *_: object) -> None:
        """Connect no more once `stop` has waited long enough: another of our name may be there by now."""
        if self._given_up:
            raise ConnectionAbortedError

    def _make_session(self, protocol: MQTTProtocolVersion) -> Session:
        """Return a connection with our last will, not yet made."""
        if self._settings.tls is not None:
            try:
                self._tls = tls_context(self._settings.tls)  # anew, for certificates are renewed
            except SettingsError as error:
                self._say_seldom(f"broker: {error}; going on with those read before")
        client = make_client(self._settings, f"emotion-edge-{self._node}", protocol, self._tls)
        marks = marked(PacketTypes.WILLMESSAGE, self._run_name) if protocol is MQTTProtocolVersion.MQTTv5 else None
        client.on_socket_open = self._stay_away
        client.will_set(self._status, LAST_WILL, qos=1, retain=True, properties=marks)
        return Session(self, client, protocol, self._status, self._run_name)


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
            publisher.forget_camera(camera)

    publisher.listen(f"{publisher.base}/+/status", listener)


def may_answer_to(base: str, topic: str) -> bool:
    """Tell whether an answer may go to a topic: one below `base` at which no daemon publishes or listens."""
    level = topic.rpartition("/")[2]
    return topic.startswith(f"{base}/") and not set("+#\0") & set(topic) and level not in OWN_LEVELS
