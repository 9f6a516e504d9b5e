"""The publisher, against a real Mosquitto and against the demo's broker, which speaks MQTT 3.1.1 only."""

import contextlib
import json
import logging
import socket
import threading
import time

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

import edge.mqtt
import edge.session
from edge.client import LARGEST, ROOM
from edge.demo import EmbeddedBroker
from edge.events import decode_event, encode_faces, state
from edge.metrics import Metrics
from edge.mqtt import Publisher
from edge.outbox import Outbox
from edge.session import UNSENT
from edge.settings import MqttSettings
from edge.store import Message
from edge.summary import Summary
from tests.parts import HOST, eventually, free_port
from tests.parts.broker import Mosquitto
from tests.parts.samples import LABELS, make_event
from tests.parts.schema import validate_event
from tests.parts.stubborn import StubbornBroker
from tests.parts.subscriber import Subscriber

ONLINE = state("online", version="0")
VIEW = b'{"faces":1,"emotion":"neutral","scores":{"neutral":1}}'
STATUS = "emotion/node/status"


class Node:
    """A publisher with what belongs to it."""

    def __init__(self, port, **settings):
        self.outbox = Outbox()
        self.metrics = Metrics("node", "0")
        self.published = []
        self.publisher = Publisher(
            MqttSettings(port=port, **settings), "node", self.outbox, self.metrics, self.published.append, ("camera",)
        )

    def start(self):
        self.publisher.set_state("status", ONLINE)
        self.publisher.start()

    def connected(self):
        return self.publisher.connected.is_set()

    def put(self, *numbers, **changes):
        self.outbox.put(make_event(number, **changes) for number in numbers)

    def gauge(self):
        return self.metrics.mqtt_connected._value.get()


@pytest.fixture
def node(monkeypatch):
    """Make nodes that try again at once; they are stopped with the test."""
    monkeypatch.setattr(edge.mqtt, "BACK_OFF", (0.05,))
    made = []

    def make(port, **settings):
        made.append(Node(port, **settings))
        return made[-1]

    yield make
    for one in made:
        if one.publisher._thread.is_alive():
            one.publisher.stop(1)


def summary(number):
    """The payload of a camera's summary that differs from others by its number."""
    told = Summary("node", "camera", LABELS, "model 1", 0)
    told.begin(60.0 * (number - 1), 0)
    return told.tell(60.0 * number, 0, 1).payload


def events(subscriber, camera="camera"):
    return [message.payload["seq"] for message in subscriber.on(f"emotion/node/{camera}/event")]


def retained(port, topic, **login):
    """The retained payload that a new client gets; raises if there is none.

    What is sent just while a client subscribes comes to it as new; the next one gets it as retained.
    """

    def kept():
        with Subscriber(port, (topic,), **login) as new, contextlib.suppress(AssertionError):
            return new.wait_for(lambda message: message.retain, 1)

    return eventually(kept, 30, f"retained {topic}").payload


def test_events_arrive_in_order_once_with_qos_1_and_keep_to_the_schema(broker, subscriber, node):
    one = node(broker.port)
    one.put(*range(1, 101))
    one.start()
    eventually(lambda: len(one.published) == 100, 30, "100 acknowledged events")
    eventually(lambda: len(events(subscriber)) == 100, 30, "100 received events")
    assert events(subscriber) == list(range(1, 101))
    assert [event.seq for event in one.published] == list(range(1, 101))
    for message in subscriber.on("emotion/node/camera/event"):
        validate_event(message.payload)
        assert (message.qos, message.retain) == (1, False)
        assert decode_event(message.raw) == make_event(message.payload["seq"])
    assert len(one.outbox) == 0
    assert one.metrics.publish_ack._sum.get() > 0


def test_many_events_and_states_at_once_do_not_lock_up(broker, node):
    """Acknowledgements arrive while further messages are being sent, from two threads."""
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    for number in range(3000):
        one.put(number + 1)
        if number % 10 == 0:
            one.publisher.set_state("camera/emotion", b'{"faces":%d}' % number)
    eventually(lambda: len(one.published) == 3000, 60, "3000 acknowledged events", lambda: len(one.published))
    assert [event.seq for event in one.published] == list(range(1, 3001))


def test_states_are_retained_and_status_says_offline_after_a_stop(broker, node):
    one = node(broker.port)
    one.start()
    one.publisher.set_state("camera/status", state("online"))
    eventually(one.connected, 30, "connection")
    one.publisher.set_state("camera/emotion", VIEW)
    assert retained(broker.port, STATUS) == {"state": "online", "version": "0"}
    assert retained(broker.port, "emotion/node/camera/status") == {"state": "online"}
    assert retained(broker.port, "emotion/node/camera/emotion") == json.loads(VIEW)
    assert one.publisher.stop(5) == 0
    assert retained(broker.port, STATUS) == {"state": "offline", "reason": "stopped"}
    assert one.gauge() == 0


def test_a_stop_never_leaves_the_last_will(broker, subscriber, node, monkeypatch):
    """The goodbye is lost if the socket is closed with the echo of our own status unread."""
    monkeypatch.setattr(edge.session, "SILENCE", 5.0)  # a broker that is busy answers late
    for _ in range(15):
        seen = len(subscriber.messages)
        one = node(broker.port)
        monkeypatch.setattr(one.outbox, "offer", lambda **_: time.sleep(0.001))  # so that it leaves at once
        one.start()
        eventually(one.connected, 30, "connection")
        subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online", start=seen)
        one.publisher.stop(5)
    assert retained(broker.port, STATUS) == {"state": "offline", "reason": "stopped"}
    assert [m.payload for m in subscriber.on(STATUS) if m.payload.get("reason") == "lost"] == []


@pytest.mark.parametrize("acknowledges", [True, False])
def test_who_cannot_say_offline_leaves_it_to_the_last_will(node, acknowledges):
    """What waits behind 20 messages that nobody acknowledges never leaves the process."""
    with StubbornBroker(lambda _: 0 if acknowledges else None) as broker:
        one = node(broker.port)
        one.start()
        eventually(one.connected, 30, "connection")
        for number in range(edge.session.IN_FLIGHT):
            one.publisher.set_state(f"camera/state-{number}", b"{}")
        one.put(*range(1, 31))
        eventually(lambda: len(broker.published) >= edge.session.IN_FLIGHT, 30, "messages under way")
        if acknowledges:
            assert one.outbox.wait_empty(30)
        one.publisher.stop(1)
        assert not one.publisher._thread.is_alive()
        eventually(lambda: not acknowledges or broker.goodbyes, 30, "goodbye")
        assert broker.goodbyes == acknowledges
        assert broker.published.count(STATUS) == 1 + acknowledges


def test_last_will_speaks_when_the_connection_breaks(broker, subscriber, node):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online")
    seen = len(subscriber.messages)
    one.publisher._session.client.socket().shutdown(socket.SHUT_RDWR)
    subscriber.wait_for(lambda m: m.payload == {"state": "offline", "reason": "lost"}, start=seen)
    subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online", start=seen)
    eventually(lambda: one.metrics.mqtt_reconnects._value.get() == 1, 30, "counted reconnect")


def test_last_values_come_again_after_a_broker_that_forgot_them(parts, node):
    broker = parts.start(Mosquitto(parts.folder("forgetful")))
    one = node(broker.port)
    one.start()
    one.publisher.set_state("camera/status", state("offline", reason="starting"))
    eventually(one.connected, 30, "connection")
    broker.kill()
    eventually(lambda: not one.connected() and one.gauge() == 0, 30, "lost connection")
    one.publisher.set_state("camera/status", state("online"))
    broker.start()
    eventually(one.connected, 30, "new connection")
    assert retained(broker.port, "emotion/node/camera/status") == {"state": "online"}
    assert retained(broker.port, STATUS)["state"] == "online"
    assert one.gauge() == 1


def test_the_last_summary_comes_again_after_a_broker_that_forgot_it(parts, node):
    """Within 5 s: a reconnect is tried within 1 s or 2, and it is among the first that is said."""
    broker = parts.start(Mosquitto(parts.folder("forgetful")))
    one = node(broker.port)
    for number in (1, 2):
        one.outbox.put_message(Message(f"s{number}", "camera", "summary", summary(number)))
    one.outbox.put_message(Message("g", "gone", "summary", summary(3)))
    one.start()
    eventually(lambda: len(one.outbox) == 0, 30, "delivery")
    for forgotten in (False, True):
        broker.kill()
        eventually(lambda: not one.connected(), 30, "lost connection")
        broker.start()
        eventually(one.connected, 30, "new connection")
        settle(one, broker.port, str(forgotten))
        with Subscriber(broker.port) as late:
            late.wait_for(lambda m: m.topic == STATUS, 10)
            late.publish("last", b"1")
            late.wait_for(lambda m: m.topic == "last", 10)
            found = [(m.topic, m.payload) for m in late.messages if m.topic.endswith("/summary")]
        assert found == ([] if forgotten else [("emotion/node/camera/summary", json.loads(summary(2)))])
        one.publisher.forget_camera("camera")


def test_events_of_an_outage_arrive_in_order(broker, subscriber, node):
    one = node(broker.port)
    one.start()
    one.put(1, 2, 3)
    eventually(lambda: len(one.published) == 3, 30, "first events")
    before = subscriber.subscriptions
    broker.stop()
    one.put(*range(4, 60))
    assert len(one.outbox) == 56
    broker.start()
    subscriber.wait_subscribed(more_than=before)
    one.put(60)
    eventually(lambda: len(one.published) == 60, 60, "all events", lambda: len(one.published))
    eventually(lambda: 60 in events(subscriber), 30, "the last event")
    assert list(dict.fromkeys(events(subscriber))) == list(range(1, 61))
    assert one.publisher.stop(2) == 0


def test_frozen_broker_gets_what_it_missed(broker, subscriber, node, monkeypatch, caplog):
    """An acknowledgement that does not come ends the connection; the events are sent again over the next."""
    monkeypatch.setattr(edge.session, "ACK_TIMEOUT", 0.5)
    monkeypatch.setattr(edge.mqtt, "ANSWER_TIMEOUT", 0.5)
    one = node(broker.port)
    one.start()
    one.put(1)
    eventually(lambda: len(one.published) == 1, 30, "first event")
    broker.freeze()
    one.put(*range(2, 50))
    eventually(lambda: not one.connected(), 30, "connection given up")
    assert len(one.outbox) == 48
    broker.thaw()
    eventually(lambda: len(one.published) == 49, 60, "all events", lambda: len(one.published))
    eventually(lambda: 49 in events(subscriber), 30, "the last event")
    assert list(dict.fromkeys(events(subscriber))) == list(range(1, 50))
    assert "connection lost" not in caplog.text, "it was we who left"


def test_half_open_connection_is_given_up_though_nothing_is_sent(broker, node, monkeypatch):
    monkeypatch.setattr(edge.mqtt, "ANSWER_TIMEOUT", 0.5)
    one = node(broker.port, keepalive=5)
    one.start()
    eventually(one.connected, 30, "connection")
    broker.freeze()
    eventually(lambda: not one.connected(), 30, "connection given up")
    broker.thaw()
    eventually(one.connected, 30, "another connection")


def test_wrong_password_is_one_line_with_a_remedy_and_no_hot_loop(parts, node, caplog):
    caplog.set_level(logging.WARNING)
    broker = parts.start(Mosquitto(parts.folder("locked"), passwords={"edge": "right"}))
    one = node(broker.port, username="edge", password="wrong-one")
    one.start()
    eventually(lambda: broker.log.read_text().count("not authorised") >= 3, 30, "three refused attempts")
    assert not one.connected()
    assert one.gauge() == 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"broker {HOST}:{broker.port}: refused the connection: ")
    assert "mqtt.username" in lines[0]
    assert "wrong-one" not in caplog.text
    assert one.publisher.stop(1) == 0


def test_pauses_between_attempts_grow(node, monkeypatch):
    pauses = []
    monkeypatch.setattr(edge.mqtt, "BACK_OFF", (0.01, 0.02, 0.04))
    monkeypatch.setattr(edge.mqtt.random, "uniform", lambda low, high: pauses.append((low, high)) or 1.0)
    waits = []
    one = node(free_port())
    leave = one.publisher._leave
    monkeypatch.setattr(leave, "wait", lambda seconds: waits.append(seconds) or threading.Event.wait(leave, 0))
    one.start()
    eventually(lambda: len(waits) >= 5, 30, "five attempts")
    assert waits[:5] == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert set(pauses) == {(0.8, 1.2)}


def test_right_password_connects(parts, node):
    broker = parts.start(Mosquitto(parts.folder("locked"), passwords={"edge": "p@ss word"}))
    one = node(broker.port, username="edge", password="p@ss word")
    one.start()
    eventually(one.connected, 30, "connection")
    login = {"user": "edge", "password": "p@ss word"}
    assert retained(broker.port, STATUS, **login)["state"] == "online"


@pytest.mark.own_messages
@pytest.mark.parametrize("foreign", [b'{"state":"offline","reason":"lost"}', b'{"state":"offline"}', b""])
def test_own_status_is_put_right(broker, subscriber, node, foreign):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    subscriber.wait_for(lambda m: m.topic == STATUS)
    seen = len(subscriber.messages)
    subscriber.publish(STATUS, foreign, retain=True)
    subscriber.wait_for(lambda m: m.topic == STATUS and m.raw == foreign, start=seen)
    subscriber.wait_for(lambda m: m.topic == STATUS and m.raw == ONLINE, start=seen)
    eventually(lambda: retained(broker.port, STATUS)["state"] == "online", 30, "own status")


@pytest.mark.own_messages
def test_a_flood_of_foreign_statuses_is_put_right_now_and_then(broker, subscriber, node):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    for number in range(300):
        subscriber.publish(STATUS, b'{"state":"offline","number":%d}' % number)
    subscriber.wait_for(lambda m: m.topic == STATUS and m.payload.get("number") == 299)
    last = max(i for i, m in enumerate(subscriber.messages) if b"299" in m.raw)
    subscriber.wait_for(lambda m: m.topic == STATUS and m.raw == ONLINE, start=last)
    assert sum(m.raw == ONLINE for m in subscriber.messages) < 100


def test_status_that_changes_quickly_settles_on_the_last(broker, subscriber, node):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    for number in range(50):
        one.publisher.set_state("status", state("online", number=number))
    subscriber.wait_for(lambda m: m.topic == STATUS and m.payload.get("number") == 49)
    one.put(1)
    subscriber.wait_for(lambda m: m.topic.endswith("/event"))
    assert retained(broker.port, STATUS) == {"state": "online", "number": 49}


def test_events_that_the_broker_does_not_allow_are_kept_with_growing_pauses(parts, node, caplog):
    caplog.set_level(logging.WARNING)
    folder = parts.folder("strict")
    acl = folder / "acl"
    acl.write_text("topic readwrite emotion/node/+\ntopic read #\n")
    broker = parts.start(Mosquitto(folder, acl_file=str(acl)))
    one = node(broker.port)
    one.start()
    one.put(1, 2, 3)
    eventually(lambda: one.metrics.mqtt_reconnects._value.get() >= 3, 30, "three further attempts")
    assert len(one.outbox) == 3
    assert one.published == []
    assert one.metrics.events_dropped["refused"]._value.get() == 0
    lines = [record.getMessage() for record in caplog.records if "does not take events" in record.getMessage()]
    assert len(lines) == 1
    acl.write_text("topic readwrite #\n")
    broker.stop()
    broker.start()
    eventually(lambda: len(one.published) == 3, 30, "events once they are allowed")


def test_withheld_events_lengthen_the_pause(parts, node, monkeypatch, caplog):
    folder = parts.folder("strict")
    (folder / "acl").write_text("topic readwrite emotion/node/+\n")
    broker = parts.start(Mosquitto(folder, acl_file=str(folder / "acl")))
    monkeypatch.setattr(edge.mqtt, "BACK_OFF", (0.01, 0.02, 0.04))
    monkeypatch.setattr(edge.mqtt, "JITTER", 0.0)
    waits = []
    one = node(broker.port)
    leave = one.publisher._leave
    monkeypatch.setattr(leave, "wait", lambda seconds: waits.append(seconds) or threading.Event.wait(leave, 0))
    one.put(1)
    one.start()
    eventually(lambda: len(waits) >= 4, 30, "four attempts")
    assert waits[:4] == [0.01, 0.02, 0.04, 0.04]
    assert len(one.outbox) == 1
    assert "connection lost" not in caplog.text, "it was we who left"


def test_message_too_large_is_refused_for_good(broker, node):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    session = one.publisher._session
    reason = ReasonCode(PacketTypes.PUBACK, identifier=0x99)
    # Mosquitto refuses no payload, so the answer is changed on its way.
    session.client.on_publish = lambda client, data, mid, _reason, more: session._on_publish(
        client, data, mid, reason, more
    )
    one.put(1)
    eventually(lambda: one.metrics.events_dropped["refused"]._value.get() == 1, 30, "refusal")
    assert len(one.outbox) == 0
    assert one.published == []
    assert one.connected()


def test_message_larger_than_the_broker_takes_is_set_aside_and_the_rest_goes_on(parts, node):
    broker = parts.start(Mosquitto(parts.folder("small"), max_packet_size=1200))
    one = node(broker.port)
    one.put(1)
    one.put(2, model="m" * 1000)
    one.put(3)
    one.start()
    eventually(lambda: len(one.published) == 2, 30, "events that fit")
    assert [event.seq for event in one.published] == [1, 3]
    assert one.metrics.events_dropped["refused"]._value.get() == 1
    assert one.metrics.mqtt_reconnects._value.get() == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_network_thread_that_dies_is_noticed(broker, node, caplog):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    one.publisher._session.client.on_publish = lambda *_: 1 / 0
    one.put(1, 2)
    eventually(lambda: len(one.published) == 2, 30, "events over another connection")
    assert "the network thread died" in caplog.text
    assert one.metrics.mqtt_reconnects._value.get() == 1


def test_broker_of_311_gets_events_too(node, caplog):
    caplog.set_level(logging.INFO, logger="edge")
    settings = MqttSettings(port=free_port())
    embedded = EmbeddedBroker(settings)
    embedded.start()
    one = node(settings.port)
    one.start()
    eventually(one.connected, 30, "connection", lambda: caplog.text)
    assert "MQTT 3.1.1" in caplog.text
    one.put(1, 2, 3)
    eventually(lambda: len(one.published) == 3, 30, "acknowledged events")
    assert one.publisher.stop(2) == 0
    embedded.stop()


@pytest.mark.parametrize(
    "refusal",
    [b"\x20\x03\x00\x84\x00", b"\x20\x02\x00\x01"],
    ids=["0x84, as MQTT 5 has it", "0x01, as MQTT 3.1.1 has it"],
)
def test_a_broker_that_refuses_version_5_gets_311_at_once_and_from_then_on(node, caplog, refusal):
    caplog.set_level(logging.INFO, logger="edge")
    with StubbornBroker(lambda _: 0, refuse_5=refusal) as old:
        one = node(old.port)
        one.start()
        one.put(1)
        eventually(lambda: len(one.published) == 1, 30, "event", lambda: caplog.text)
        one.publisher._session.client.socket().shutdown(socket.SHUT_RDWR)
        eventually(lambda: len(old.versions) >= 3 and one.connected(), 30, "another connection")
        assert old.versions == [5, 4, 4]
        assert old.connections[1] - old.connections[0] < edge.client.ANSWER_TIMEOUT, "at once"
        one.publisher.stop(1)
    assert f"broker {HOST}:{old.port}: speaks no MQTT 5, using 3.1.1" in caplog.text


def test_no_more_events_are_under_way_than_the_window_holds(node):
    """What a connection can deliver twice; and paho has nothing that waits within it."""
    with StubbornBroker(lambda topic: None if topic.endswith("/event") else 0) as stubborn:
        one = node(stubborn.port)
        one.start()
        one.put(*range(1, 101))

        def sent():
            return [topic for topic in stubborn.published if topic.endswith("/event")]

        eventually(lambda: len(sent()) == edge.session.WINDOW, 30, "full window", sent)
        for number in range(3):  # what comes after them is not held up, and brings no more of them along
            topic = f"camera/state-{number}"
            one.publisher.set_state(topic, b"{}")
            eventually(lambda t=topic: f"emotion/node/{t}" in stubborn.published, 30, "state")
        assert len(sent()) == edge.session.WINDOW
        assert len(one.outbox) == 100
        client = one.publisher._session.client
        assert len([m for m in client._out_messages.values() if m.topic.endswith("/event")]) == edge.session.WINDOW
        assert client._inflight_messages >= edge.session.WINDOW, "all of them are sent, none waits in paho's queue"
        one.publisher.stop(0.1)


@pytest.mark.parametrize(("receives", "events_at_most"), [(1, 1), (5, 4), (10, 8), (100, 16)])
def test_no_more_is_under_way_than_the_broker_takes(node, receives, events_at_most):
    """A broker ends connections on which it is sent more (MQTT 5, 3.3.4); HiveMQ takes 10 unless told otherwise."""
    let_go = threading.Event()
    with StubbornBroker(lambda _: 0 if let_go.is_set() else None, receives=receives) as broker:
        one = node(broker.port)
        for number in range(6):
            one.publisher.set_state(f"camera/state-{number}", b"{}")
        one.start()
        eventually(one.connected, 30, "connection")
        client = one.publisher._session.client
        one.put(*range(1, 41))
        eventually(lambda: len(one.publisher._session._under_way) == events_at_most, 30, "full window")
        eventually(lambda: len(broker.published) == min(receives, 20), 30, "what it takes")
        assert client._inflight_messages == len(broker.published)
        one.publisher.stop(0.1)


def test_once_its_time_to_stop_is_over_it_does_not_connect(node, monkeypatch):
    """After a restart within the process another publisher of the same name is there."""
    reached, connect = threading.Event(), edge.mqtt.connect
    asked = threading.Event()

    def late(*arguments):
        asked.set()
        reached.wait(30)
        connect(*arguments)

    monkeypatch.setattr(edge.mqtt, "connect", late)
    with StubbornBroker(lambda _: 0) as broker:
        one = node(broker.port)
        one.start()
        assert asked.wait(30)
        one.publisher.stop(0)
        reached.set()
        eventually(lambda: not one.publisher._thread.is_alive(), 30, "end of the thread")
        assert broker.connections == []


def clashes(caplog):
    return [r.getMessage() for r in caplog.records if "give each a `node` of its own" in r.getMessage()]


def test_two_programs_with_one_name_say_so_once_and_do_not_fight(broker, node, monkeypatch, caplog):
    """Mosquitto 2.0.11 tells the elder connection nothing when it closes it for a newer one."""
    waits = (0.2, 0.4, 0.8)  # what each hears of the other, on a busy machine too, comes sooner
    one, other = node(broker.port), node(broker.port)
    monkeypatch.setattr(edge.mqtt, "BACK_OFF", waits)
    one.start()
    eventually(one.connected, 30, "connection")
    other.start()
    eventually(lambda: len(clashes(caplog)) >= 2, 60, "both say so", lambda: caplog.text)
    lost = caplog.text.count("connection lost")
    time.sleep(2 * waits[-1])
    started, before = time.monotonic(), one.publisher._connections + other.publisher._connections
    time.sleep(3 * waits[-1])
    after, took = one.publisher._connections + other.publisher._connections, time.monotonic() - started
    most = 2 * (took / (waits[-1] * (1 - edge.mqtt.JITTER)) + 1)
    assert after - before <= most, "each waits 0.8 s, more or less, after a loss; not 0.2 s"
    assert caplog.text.count("connection lost") == lost
    assert len(clashes(caplog)) == 2
    other.publisher.stop(5)
    eventually(one.connected, 30, "connection of the one that is left")
    one.put(1)
    eventually(lambda: len(one.published) == 1, 30, "event")
    assert retained(broker.port, STATUS) == {"state": "online", "version": "0"}


def test_a_broker_that_says_why_is_believed_at_once(broker, node, caplog):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    taken_over = ReasonCode(PacketTypes.DISCONNECT, identifier=0x8E)
    one.publisher._session._on_disconnect(None, None, None, taken_over, None)
    eventually(lambda: one.metrics.mqtt_reconnects._value.get() == 1, 30, "another try")
    assert len(clashes(caplog)) == 1


def lose(broker, one, kill):
    """Take the connection away, with the broker or without, and wait for the next one."""
    before = one.publisher._connections
    if kill:
        broker.kill()
        eventually(lambda: not one.connected(), 30, "lost connection")
        broker.start()
    else:
        one.publisher._session.client.socket().shutdown(socket.SHUT_RDWR)
    eventually(lambda: one.connected() and one.publisher._connections > before, 30, "next connection")


def test_losses_restarts_and_late_wills_are_no_other_program(broker, node, caplog):
    for _ in range(2):  # the second is the next run of the daemon, which finds the status of the first
        one = node(broker.port)
        one.start()
        eventually(one.connected, 30, "connection")
        for kill in (True, False, False, True):
            lose(broker, one, kill)
        one.publisher.stop(5)
    assert clashes(caplog) == []


def test_what_is_retained_of_a_camera_that_is_no_more_is_cleared(broker, subscriber, node):
    topics = [f"emotion/node/{camera}/{kind}" for camera in ("gone", "door") for kind in ("status", "emotion")]
    for topic in (*topics, "emotion/other/gone/status"):
        subscriber.publish(topic, {"state": "online", "faces": 0, "emotion": "none", "scores": {}}, retain=True)
    one = node(broker.port)
    edge.mqtt.clear_removed_cameras(one.publisher, ["door"])
    one.start()
    for kind in ("status", "emotion"):
        subscriber.wait_for(lambda m, kind=kind: m.topic == f"emotion/node/gone/{kind}" and not m.raw, what=kind)
    with Subscriber(broker.port, ("emotion/+/+/+",)) as late:
        late.wait_for(lambda m: m.topic == "emotion/other/gone/status")
        subscriber.publish("emotion/node/last/status", {"state": "online"})
        late.wait_for(lambda m: m.topic == "emotion/node/last/status")
        assert {m.topic for m in late.messages if m.retain} == {*topics[2:], "emotion/other/gone/status"}


def leave_status_of_another_run(port):
    """Do what a broker does that goes back to an older file: have a status of another run."""
    marked = Properties(PacketTypes.PUBLISH)
    marked.UserProperty = (edge.session.RUN, "another")
    with Subscriber(port, ("none",)) as sender:
        sender.publish(STATUS, b'{"state":"online"}', retain=True, properties=marked)


def settle(one, port, version):
    """Wait until the broker has all that was told so far."""
    one.publisher.set_state("status", state("online", version=version))
    eventually(lambda: retained(port, STATUS)["version"] == version, 30, "status")


def test_a_camera_that_came_back_keeps_what_is_retained_of_it(parts, node):
    broker = parts.start(Mosquitto(parts.folder("kept")))
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    for kind in ("status", "emotion", "summary"):
        one.publisher.set_state(f"camera/{kind}", {"status": ONLINE, "emotion": VIEW, "summary": summary(1)}[kind])
        retained(broker.port, f"emotion/node/camera/{kind}")
    one.publisher.forget_camera("camera")
    assert not [topic for topic in one.publisher.states() if topic.startswith("camera/")]
    settle(one, broker.port, "1")
    with Subscriber(broker.port) as late:
        late.wait_for(lambda m: m.topic == STATUS, 10)
        assert not late.on("emotion/node/camera/#")
    one.outbox.put_message(Message("s", "camera", "summary", summary(2)))
    assert retained(broker.port, "emotion/node/camera/summary") == json.loads(summary(2))
    connections = one.publisher._connections
    one.publisher._session.client.socket().shutdown(socket.SHUT_RDWR)
    eventually(lambda: one.publisher._connections > connections and one.connected(), 30, "connection")
    settle(one, broker.port, "2")
    assert retained(broker.port, "emotion/node/camera/summary") == json.loads(summary(2))


def test_one_status_of_another_run_is_no_proof_and_two_in_a_row_are(broker, node, monkeypatch, caplog):
    one = node(broker.port)
    gate, connect = threading.Event(), one.publisher._connect
    monkeypatch.setattr(one.publisher, "_connect", lambda session: gate.wait(20) and connect(session))
    gate.set()
    one.start()
    eventually(one.connected, 30, "connection")
    for foreign in (False, True, False, True, True):
        assert clashes(caplog) == []
        gate.clear()
        one.publisher._session.client.socket().shutdown(socket.SHUT_RDWR)
        eventually(lambda: not one.connected(), 30, "lost connection")
        if foreign:
            leave_status_of_another_run(broker.port)
        gate.set()
        eventually(one.connected, 30, "connection")
        eventually(lambda expected=foreign: one.publisher._session.foreign is expected, 30, "status")
    lose(broker, one, kill=False)
    assert len(clashes(caplog)) == 1


def test_what_brokers_have_of_an_earlier_run_is_no_proof(parts, node, caplog):
    first, second = (parts.start(Mosquitto(parts.folder(name))) for name in ("first", "second"))
    for broker in (first, second):
        leave_status_of_another_run(broker.port)
    one = node(first.port, fallbacks=[f"{HOST}:{second.port}"])
    one.start()
    eventually(one.connected, 30, "connection")
    first.kill()
    eventually(lambda: one.publisher._connections == 2 and one.connected(), 30, "connection to the second")
    first.start()
    second.kill()
    eventually(lambda: one.publisher._connections == 3 and one.connected(), 30, "connection to the first")
    assert clashes(caplog) == []


@pytest.mark.own_messages
def test_what_is_too_large_is_not_even_sent_to_us(broker, subscriber, node):
    """Whoever may publish to our topics could have us take in as much as the broker takes, 256 MB."""
    heard = []
    one = node(broker.port)
    one.publisher.listen("emotion/node/set", lambda message: heard.append(len(message.payload)))
    one.start()
    eventually(one.connected, 30, "connection")
    for size in (LARGEST + ROOM, 20 * LARGEST, LARGEST, 3):
        subscriber.publish("emotion/node/set", b"x" * size)
    eventually(lambda: 3 in heard, 60, "the last")
    assert heard == [LARGEST, 3]
    assert one.metrics.mqtt_reconnects._value.get() == 0


def refusals(one):
    return {what: counter._value.get() for what, counter in one.metrics.mqtt_refusals.items()}


def test_what_a_broker_does_not_take_beside_events_is_said_once_and_counted(node, caplog):
    def answer(topic):
        return 0x87 if topic.endswith(("camera/status", "answers")) else 0

    with StubbornBroker(answer, lambda topic: 0x87 if topic == "emotion/node/set" else 1) as stubborn:
        one = node(stubborn.port)
        one.publisher.listen("emotion/node/set", print)
        one.start()
        eventually(one.connected, 30, "connection")
        for number in range(5):
            one.publisher.set_state("camera/status", b'{"state":"online","number":%d}' % number)
            one.publisher.answer("emotion/\x1banswers", b"{}", None)
        one.put(1)
        eventually(lambda: len(one.published) == 1, 30, "event")
        expected = {"subscription": 1, "state": 5, "answer": 5}
        eventually(lambda: refusals(one) == expected, 30, "count", lambda: refusals(one))
        one.publisher.stop(1)
    lines = [record.getMessage() for record in caplog.records]
    assert sorted(lines) == [
        "broker: does not let us listen to emotion/node/set (Not authorized); check its access lists",
        "broker: does not take answers to commands (Not authorized); check its access lists and limits",
        "broker: does not take what is retained at emotion/node/camera/status (Not authorized); check its access lists "
        "and limits",
    ]


def test_states_and_answers_larger_than_the_broker_takes(parts, node, caplog):
    broker = parts.start(Mosquitto(parts.folder("small"), max_packet_size=500))
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    one.publisher.set_state("camera/status", b"x" * 500)
    assert one.publisher.answer("emotion/answers", b"x" * 500, None) is False
    assert one.publisher.answer("emotion/answers", b"x" * 300, None) is True
    assert refusals(one) == {"subscription": 0, "state": 1, "answer": 1}
    assert caplog.text.count("larger than the 500 bytes that it takes") == 2
    assert one.connected()


def unsaid(one):
    return {reason: counter._value.get() for reason, counter in one.metrics.faces_unsaid.items()}


def faces(number):
    return encode_faces("node", "camera", float(number), [], "model 1")


def test_what_may_be_lost_is_sent_once_or_not_at_all(broker, subscriber, node):
    one = node(broker.port)
    one.publisher.say("camera/faces", faces(1))
    one.start()
    eventually(one.connected, 30, "connection")
    one.publisher.say("camera/faces", faces(2))
    subscriber.wait_for(lambda m: m.raw == faces(2))
    subscriptions = subscriber.subscriptions
    broker.stop()
    eventually(lambda: not one.connected(), 30, "lost connection")
    one.publisher.say("camera/faces", faces(3))
    broker.start()
    eventually(one.connected, 30, "connection")
    subscriber.wait_subscribed(more_than=subscriptions)
    one.publisher.say("camera/faces", faces(4))
    subscriber.wait_for(lambda m: m.raw == faces(4))
    one.publisher.stop(1)
    one.publisher.say("camera/faces", faces(5))
    subscriber.publish("last", b"6")
    subscriber.wait_for(lambda m: m.topic == "last")
    said = subscriber.on("emotion/node/camera/faces")
    assert [(m.raw, m.qos, m.retain) for m in said] == [(faces(2), 0, False), (faces(4), 0, False)]
    with pytest.raises(AssertionError), Subscriber(broker.port, ("emotion/node/camera/faces",)) as late:
        late.wait_for(lambda m: m.retain, 0.5)
    assert unsaid(one) == {"offline": 3, "slow": 0, "oversized": 0}


def test_what_may_be_lost_neither_piles_up_nor_waits_behind_a_slow_broker(broker, node):
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    broker.freeze()
    payload = b"x" * 1_000_000
    slowest = 0.0
    for _ in range(200):
        started = time.monotonic()
        one.publisher.say("camera/faces", payload)
        slowest = max(slowest, time.monotonic() - started)
    assert len(one.publisher._session.client._out_packet) <= UNSENT
    assert unsaid(one)["slow"] >= 200 - 2 * UNSENT
    assert slowest < 5, "the broker does not answer at all"
    broker.thaw()
    eventually(lambda: not one.publisher._session.client._out_packet, 60, "everything sent")
    before = unsaid(one)
    one.publisher.say("camera/faces", b"1")
    assert unsaid(one) == before


def test_what_may_be_lost_and_is_larger_than_the_broker_takes(parts, node):
    broker = parts.start(Mosquitto(parts.folder("small"), max_packet_size=500))
    one = node(broker.port)
    one.start()
    eventually(one.connected, 30, "connection")
    one.publisher.say("camera/faces", b"x" * 500)
    assert unsaid(one) == {"offline": 0, "slow": 0, "oversized": 1}
    assert one.connected()


def test_summaries_are_retained_of_cameras_in_the_settings_only(broker, subscriber, node):
    one = node(broker.port)
    for number, camera in enumerate(("gone", "camera")):
        one.outbox.put_message(Message(str(number), camera, "summary", summary(1)))
    one.start()
    eventually(lambda: len(one.outbox) == 0, 30, "delivery")
    subscriber.wait_for(lambda m: m.topic == "emotion/node/gone/summary")
    assert retained(broker.port, "emotion/node/+/summary") == json.loads(summary(1))
    with Subscriber(broker.port, ("emotion/node/+/summary", "last")) as late:
        subscriber.publish("last", b"1")
        late.wait_for(lambda m: m.topic == "last")
        assert [m.topic for m in late.messages] == ["emotion/node/camera/summary", "last"]


def test_broker_that_never_answers_holds_up_no_stop(node, monkeypatch):
    monkeypatch.setattr(edge.mqtt, "ANSWER_TIMEOUT", 0.2)
    with socket.create_server((HOST, 0)) as silent:
        one = node(silent.getsockname()[1])
        one.start()
        one.put(1)
        eventually(lambda: one.publisher._complaint, 30, "complaint")
        assert "no answer" in one.publisher._complaint
        assert one.publisher.stop(10) == 1
        assert not one.publisher._thread.is_alive()


def test_states_are_json(broker, subscriber, node):
    one = node(broker.port)
    one.start()
    message = subscriber.wait_for(lambda m: m.topic == STATUS)
    assert json.loads(message.raw) == {"state": "online", "version": "0"}
    assert message.qos == 1
