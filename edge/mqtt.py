"""The only file that speaks to the broker.

One thread connects, sends the last values of all states, then events from the outbox in order. MQTT 5 first, 3.1.1 for
a broker that refuses version 5, or does not answer it. Every connection uses a client of its own: paho keeps nothing
that is not in the outbox too.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

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
#: Bytes of a publish beside topic and payload, at most.
OVERHEAD = 16
EVENTS_WITHHELD = "broker: does not take events now (not allowed, or over its quota); they are kept, trying again"
LAST_WILL = state("offline", reason="lost")


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

    def set_state(self, topic: str, payload: bytes) -> None:
        """Keep `payload` as the retained value of `topic` (below `<base>/<node>/`) and send it if connected."""
        with self._lock:
            self._states[topic] = payload
            session = self._session
            if session is not None and self.connected.is_set():
                session.client.publish(f"{self.base}/{topic}", payload, qos=1, retain=True)

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
            if session.accepted and not session.withheld:
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
            log.info("%s: connected (MQTT %s)", where, version)
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
        with self._lock:
            self._session = session
            self.connected.set()
            for topic, payload in self._states.items():
                session.client.publish(f"{self.base}/{topic}", payload, qos=1, retain=True)
        self._metrics.mqtt_connected.set(1)
        session.client.subscribe(f"{self.base}/status", qos=1)
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

    def own_status(self, client: paho.Client, payload: bytes) -> None:
        """Overrule another status than ours, such as a last will of an earlier connection that came late."""
        with self._lock:
            mine = self._states.get("status")
            if mine is not None and payload != mine and not self._leave.is_set():
                client.publish(f"{self.base}/status", mine, qos=1, retain=True)

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
        client.will_set(f"{self.base}/status", LAST_WILL, qos=1, retain=True)
        client.connect_timeout = CONNECT_TIMEOUT
        return client


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
        self._publisher = publisher
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
            self.client.unsubscribe(f"{self._publisher.base}/status")
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
            log.error("broker: another program connected as the same node; give each a `node` of its own")
        elif self.accepted and not self._publisher._leave.is_set():
            log.warning("broker: connection lost (%s)", reason)
        self._end()

    def _on_publish(self, _c: paho.Client, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        self._answers.put((mid, reason, time.monotonic()))

    def _on_message(self, client: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        self._publisher.own_status(client, bytes(message.payload))

    def _on_unsubscribe(self, *_: Any) -> None:
        self.silent.set()

    def _end(self) -> None:
        self.lost.set()
        self.silent.set()
        self.answered.set()
