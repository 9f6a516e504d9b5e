"""Device discovery: what Home Assistant is told, when, and what its templates make of the daemon's messages."""

import json
import re

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import ValidationError

import edge.homeassistant
import edge.mqtt
from edge.events import decode_event, state
from edge.homeassistant import HomeAssistant, discovery, removed
from edge.metrics import Metrics
from edge.mqtt import Publisher
from edge.outbox import Outbox
from edge.settings import Settings
from tests.parts import eventually
from tests.parts.homeassistant import validate_discovery
from tests.parts.samples import LABELS, make_event
from tests.parts.schema import validate
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

CONFIG = "homeassistant/device/test/config"


def settings(broker=None, cameras=("door", "a-b_c"), **more):
    return Settings.model_validate({**settings_for(broker, **{name: {"source": 0} for name in cameras}), **more})


def document(**more):
    return discovery(settings(**more), LABELS, "1.2")


def render(template, **values):
    """Render as Home Assistant does: in a sandbox, what is JSON as `value_json` too."""
    return ImmutableSandboxedEnvironment().from_string(template).render(**values)


def shown(component, payload):
    return render(component["value_template"], value_json=json.loads(payload))


def test_document_is_one_that_home_assistant_takes():
    validate_discovery(document())
    found = document()
    assert set(found["components"]) == {
        f"{camera}_{kind}" for camera in ("door", "a-b_c") for kind in ("emotion", "faces", "online", "event", "pause")
    }
    assert found["device"]["identifiers"] == ["emotion-edge/test"]
    assert found["origin"]["name"] == "emotion-edge"
    names = [component["unique_id"] for component in found["components"].values()]
    assert len(set(names)) == len(names)


def test_the_check_itself_finds_mistakes():
    for change in (
        {"platform": "sensor", "state_topic": "a/b"},  # no unique_id
        {**document()["components"]["door_emotion"], "state_class": "measurement"},
        {**document()["components"]["door_emotion"], "option": ["a"]},
        {**document()["components"]["door_event"], "state_topic": "a/+/b"},
    ):
        with pytest.raises(ValidationError):
            validate_discovery({**document(), "components": {"door_emotion": change}})


def test_a_camera_is_available_only_if_node_and_camera_are_online():
    for kind in ("emotion", "faces", "event"):
        component = document()["components"][f"door_{kind}"]
        assert component["availability_mode"] == "all"
        topics = [entry["topic"] for entry in component["availability"]]
        assert topics == ["emotion/test/status", "emotion/test/door/status"]
        for entry in component["availability"]:
            assert shown(entry, state("online", version="1")) == "online"
            assert shown(entry, state("offline", reason="lost")) == "offline"
    for kind in ("online", "pause"):  # these must be there while the camera is offline
        topics = [entry["topic"] for entry in document()["components"][f"door_{kind}"]["availability"]]
        assert topics == ["emotion/test/status"]


def test_sensors_show_what_the_daemon_says():
    components = document()["components"]
    view = b'{"faces":0,"emotion":"none","scores":{}}'
    assert shown(components["door_emotion"], view) == "none"
    assert components["door_emotion"]["options"] == [*LABELS, "none"]
    assert shown(components["door_faces"], view) == "0"
    assert shown(components["door_online"], state("offline", reason="auth")) == components["door_online"]["payload_off"]
    assert shown(components["door_online"], state("online")) == components["door_online"]["payload_on"]


def test_event_entity_gets_the_type_of_each_event():
    component = document()["components"]["door_event"]
    for kind in ("start", "change", "end"):
        event = make_event(1, type=kind)
        attributes = json.loads(shown(component, event.encode()))
        assert attributes.pop("event_type") == kind
        assert kind in component["event_types"]
        assert decode_event(json.dumps(attributes).encode()) == event


def test_switch_pauses_and_shows_it():
    component = document()["components"]["door_pause"]
    assert component["command_topic"] == "emotion/test/door/set"
    assert shown(component, state("online", paused=True)) == component["payload_on"]
    assert shown(component, state("offline", reason="auth")) == component["payload_off"]

    class Now:
        @staticmethod
        def timestamp():
            return 1795416120.123456

    for payload in (component["payload_on"], component["payload_off"]):
        command = json.loads(render(component["command_template"], value=payload, now=Now))
        validate("node/set", command)
        assert command == {"id": "homeassistant-door-1795416120.123456", "command": payload}


def test_nothing_of_single_faces_with_privacy_and_no_switch_that_may_not_be_used():
    kinds = {key.rpartition("_")[2] for key in document(privacy="aggregate")["components"]}
    assert kinds == {"online", "pause"}
    assert not re.search("|".join(LABELS), json.dumps(document(privacy="aggregate")))
    assert "door_pause" not in document(commands={"allow": ["pause", "snapshot"]})["components"]


def test_only_what_the_daemon_itself_announced_is_taken_back():
    earlier = {
        "components": {"gone_emotion": {"platform": "sensor"}, "gone_lock": {}, "../x_pause": {}, "door_event": {}}
    }
    assert removed(json.dumps(earlier).encode(), document()) == {"gone_emotion": {"platform": "sensor"}}


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{}", b'{"components":[1]}', b"[" * 100_000])
def test_an_earlier_message_that_is_none_takes_nothing_back(payload):
    assert removed(payload, document()) == {}


@pytest.fixture
def announce(monkeypatch):
    """Start a publisher that announces a node, in place of the one before; it is stopped with the test."""
    monkeypatch.setattr(edge.mqtt, "BACK_OFF", (0.05,))
    made = []

    def start(broker, **more):
        if made:
            made.pop().stop(5)
        chosen = settings(broker, **more)
        publisher = Publisher(chosen.mqtt, "test", Outbox(), Metrics("test", "0"))
        home = HomeAssistant(chosen, "1.2", publisher)
        home.announce(LABELS)
        publisher.start()
        made.append(publisher)
        eventually(publisher.connected.is_set, 30, "connection")
        return home

    yield start
    for publisher in made:
        publisher.stop(1)


def configs(subscriber):
    return [message.payload for message in subscriber.on(CONFIG)]


def test_sent_again_when_home_assistant_starts_and_when_the_labels_change(broker, subscriber, announce, monkeypatch):
    home = announce(broker)
    subscriber.wait_for(lambda m: m.topic == CONFIG)
    for payload, expected in ((b"offline", 1), (b"online", 2)):
        subscriber.publish("homeassistant/status", payload)
        eventually(lambda n=expected: len(configs(subscriber)) == n, 30, "announcement", lambda: configs(subscriber))
    for payload in (b"online", b"online", b"flood is over"):
        subscriber.publish("homeassistant/status", payload)
    subscriber.wait_for(lambda m: m.raw == b"flood is over")
    home.announce(("calm",))
    eventually(lambda: len(configs(subscriber)) == 3, 30, "announcement")
    assert configs(subscriber)[2]["components"]["door_emotion"]["options"] == ["calm", "none"]
    monkeypatch.setattr(edge.homeassistant, "GREETING", 0.0)
    subscriber.publish("homeassistant/status", b"online")
    eventually(lambda: len(configs(subscriber)) == 4, 30, "announcement")
    with Subscriber(broker.port, (CONFIG,)) as late:
        assert late.wait_for(lambda m: m.retain).payload == configs(subscriber)[2]


def test_a_camera_that_is_gone_is_taken_back_once(broker, subscriber, announce):
    announce(broker)
    subscriber.wait_for(lambda m: m.topic == CONFIG)
    before = len(configs(subscriber))
    announce(broker, cameras=("door",), privacy="aggregate")  # as after a restart with other settings
    eventually(
        lambda: len(configs(subscriber)) >= before + 3, 30, "announcements", lambda: configs(subscriber)[before:]
    )
    new = configs(subscriber)[before:]
    only = [{key for key, c in each["components"].items() if set(c) == {"platform"}} for each in new]
    gone = {f"a-b_c_{kind}" for kind in ("emotion", "faces", "online", "event", "pause")}
    gone |= {f"door_{kind}" for kind in ("emotion", "faces", "event")}
    assert [each for each in only if each] == [gone], "once"
    taken_back = next(each for each in new if set(each["components"]) > gone)
    assert set(list(taken_back["components"])[: len(gone)]) == gone, "first, see edge/homeassistant.py"
    assert set(new[-1]["components"]) == {"door_online", "door_pause"}


def test_not_announced_if_not_wanted(broker, subscriber, announce):
    announce(broker, homeassistant={"discovery": False})
    subscriber.publish("homeassistant/status", b"online")
    subscriber.publish("last", b"1")
    subscriber.wait_for(lambda m: m.topic == "last")
    assert configs(subscriber) == []


@pytest.mark.own_messages
def test_what_was_announced_is_cleared_once_it_is_not_wanted(broker, subscriber, announce):
    announce(broker)
    subscriber.wait_for(lambda m: m.topic == CONFIG)
    announce(broker, homeassistant={"discovery": False})  # as after a restart with other settings
    subscriber.wait_for(lambda m: m.topic == CONFIG and not m.raw, what="cleared announcement")
    with Subscriber(broker.port, (CONFIG, "last")) as late:
        subscriber.publish("last", b"1")
        late.wait_for(lambda m: m.topic == "last")
        assert [m.topic for m in late.messages] == ["last"]
