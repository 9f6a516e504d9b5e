"""The recipe of `deploy/fleet/`: its proof in the short form, and files that the programs they are for take."""

import json

import pytest
import yaml

from deploy.fleet.prove import HERE, SHORT, Consumer, Reached, compared, prove, recipe
from tests.parts import eventually
from tests.parts.monitoring import RECIPE


def test_nothing_is_lost_and_consumers_share(tmp_path, figure):
    rows = list(prove(tmp_path, SHORT))
    for row in rows:
        figure(f"{row.fault}: {row.figure}")
    # The one about those who share comes with a kill only if they missed something.
    assert len(rows) >= 5
    assert not [row for row in rows if not row.held and not row.speed]


@pytest.mark.parametrize(
    ("shared", "archived", "held"),
    [
        ("abc", "", [True]),
        ("ab", "c", [True, True]),  # made while the centre had no subscriptions
        ("ac", "b", [True, False]),
        ("ab", "", [False]),
    ],
)
def test_those_who_share_may_lack_only_what_was_made_while_the_centre_knew_none_of_them(shared, archived, held):
    reached = Reached(set("abc"), set(shared), set(archived), set("abc"))
    assert [row.held for row in compared("centre", reached, set("c"), 0)] == held


def test_no_topic_goes_both_ways_over_the_bridge():
    topics = [line.split() for line in recipe("site.conf")["topic"]]
    ways = {way: {topic for topic, which, _ in topics if which == way} for way in ("in", "out")}
    assert not ways["in"] & ways["out"]
    assert {qos for *_, qos in topics} == {"1"}
    assert {topic.rpartition("/")[2] for topic in ways["out"]} == {
        *("status", "event", "emotion", "summary", "response", "config"),
    }


def test_a_site_has_its_name_everywhere():
    assert "site-a" not in json.dumps(recipe("site.conf", "site-7"))


def test_prometheus_finds_nodes_told_apart():
    targets = [entry for path in (RECIPE / "targets").glob("*.yml") for entry in yaml.safe_load(path.read_text())]
    labels = [entry["labels"] for entry in targets]
    assert all(set(each) == {"node", "site"} for each in labels)
    assert len({each["node"] for each in labels}) == len(labels)


def test_compose_file_is_yaml_with_two_nodes():
    services = yaml.safe_load((HERE / "emqx.yml").read_text())["services"]
    names = [service["environment"]["EMQX_NODE_NAME"] for service in services.values()]
    assert names == ["emqx@emqx1.fleet.internal", "emqx@emqx2.fleet.internal"]
    for service in services.values():
        assert service["environment"]["EMQX_NODE_NAME"].endswith(service["hostname"])
        assert all(each in service["environment"]["EMQX_CLUSTER__STATIC__SEEDS"] for each in names)


@pytest.mark.own_messages
def test_a_consumer_passes_over_what_is_no_event(parts, broker, subscriber):
    one = parts.start(Consumer(parts.folder("consumer"), broker.port, "one", "archive", "events"))
    eventually(lambda: "$share/archive/events" in broker.log.read_text(), 60, "subscription", one.tail)
    for payload in (b"[" * 100_000, b"\xff", b"[]", b"{}", b'{"id": "\\ud800"}', b'{"id": "a"}'):
        subscriber.publish("events", payload)
    eventually(lambda: one.ids() == ["a"], 30, "id", one.tail)
    assert one.running
