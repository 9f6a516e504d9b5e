"""Commands as they come: what is carried out, answered, dropped, counted and logged."""

import io
import json
import logging
import queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge.commands
from edge.commands import LARGEST, WAITING, CommandError, Commands, Request
from edge.logs import CAUSE, LimitedHandler
from edge.metrics import COMMANDS, Metrics
from edge.mqtt import may_answer_to
from tests.parts import eventually
from tests.parts.schema import validate

ALL = ("pause", "resume", "reload", "threshold", "snapshot")


class Asked:
    """Commands whose handlers write down what they were asked for."""

    def __init__(self, allow=ALL, handler=None, largest=10_000):
        self.largest = largest
        self.calls, self.answers, self.metrics = [], queue.Queue(), Metrics("node", "0")

        def write_down(name):
            def carry_out(camera, arguments):
                self.calls.append((name, camera, arguments))
                return handler(camera, arguments) if handler else {}

            return carry_out

        self.commands = Commands(allow, {name: write_down(name) for name in ALL}, self._send, self.metrics)

    def _send(self, topic, payload, correlation):
        validate("node/response", json.loads(payload))
        if len(payload) > self.largest:
            return False
        self.answers.put((topic, json.loads(payload), correlation))
        return True

    def ask(self, payload, camera=None, retained=False, correlation=None):
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.commands.receive(Request(camera, content, "answers", correlation), retained)

    def answer(self):
        return self.answers.get(timeout=30)[1]

    def counts(self):
        values = {result: counter._value.get() for result, counter in self.metrics.commands.items()}
        return {result: value for result, value in values.items() if value}


@pytest.fixture
def make(caplog):
    """Make and start commands; they are stopped with the test."""
    caplog.set_level(logging.INFO, logger="edge")
    made = []

    def start(**arguments):
        made.append(Asked(**arguments))
        made[-1].commands.start()
        return made[-1]

    yield start
    for asked in made:
        asked.commands.stop(30)
        assert not asked.commands.dead()


def test_a_command_is_carried_out_and_answered_where_it_wants_to_be(make):
    asked = make()
    asked.ask({"id": "1", "command": "pause"}, camera="door", correlation=b"\x00\xff")
    assert asked.answers.get(timeout=30) == ("answers", {"id": "1", "ok": True, "error": None}, b"\x00\xff")
    assert asked.calls == [("pause", "door", {})]
    assert asked.counts() == {"done": 1}


def test_an_id_that_came_before_is_answered_alike_and_not_carried_out(make, monkeypatch):
    asked = make()
    for _ in range(2):
        asked.ask({"id": "1", "command": "pause"})
        assert asked.answer() == {"id": "1", "ok": True, "error": None}
    assert [name for name, *_ in asked.calls] == ["pause"]
    assert asked.counts() == {"done": 1, "repeated": 1}
    monkeypatch.setattr(edge.commands, "REMEMBER", 0.0)
    asked.ask({"id": "1", "command": "resume"})
    asked.answer()
    assert [name for name, *_ in asked.calls] == ["pause", "resume"], "ten minutes later"


def test_an_id_of_another_command_is_refused(make):
    asked = make()
    asked.ask({"id": "1", "command": "pause"}, camera="door")
    asked.answer()
    for payload, camera in (({"id": "1", "command": "resume"}, "door"), ({"id": "1", "command": "pause"}, "hall")):
        asked.ask(payload, camera=camera)
        answer = asked.answer()
        assert not answer["ok"]
        assert "another command" in answer["error"]
    assert asked.counts() == {"done": 1, "refused": 2}


def test_a_refused_command_takes_no_id(make):
    asked = make()
    asked.ask({"id": "1", "command": "puase"})
    assert not asked.answer()["ok"]
    asked.ask({"id": "1", "command": "pause"})
    assert asked.answer()["ok"]


def test_ids_are_remembered_up_to_a_bound(make, monkeypatch):
    monkeypatch.setattr(edge.commands, "REMEMBERED", 10)
    asked = make()
    for number in range(30):
        asked.ask({"id": str(number), "command": "pause"})
        asked.answer()
    assert len(asked.commands._answered) <= 10


def test_answers_are_remembered_up_to_a_size(make, monkeypatch):
    monkeypatch.setattr(edge.commands, "REMEMBERED_BYTES", 20_000)
    state = {"states": {"status": {"long": "x" * 3000}}, "thresholds": {}, "outbox": {}}
    state["outbox"] = {"messages": 0, "bytes": 0, "oldest_seconds": 0}
    asked = make(handler=lambda *_: {"state": state})
    for number in range(30):
        asked.ask({"id": str(number), "command": "snapshot"})
        assert asked.answer()["state"] == state
    assert sum(len(each.answer) for each in asked.commands._answered.values()) <= 20_000
    asked.ask({"id": "29", "command": "snapshot"})
    assert asked.answer()["state"] == state
    assert asked.counts() == {"done": 30, "repeated": 1}


def test_an_answer_larger_than_the_broker_takes_is_a_short_one_that_says_so(make):
    asked = make(largest=300, handler=lambda *_: {"warning": "x" * 1000})
    asked.ask({"id": "1", "command": "snapshot"}, correlation=b"mine")
    topic, answer, correlation = asked.answers.get(timeout=30)
    assert (topic, answer["id"], answer["ok"], correlation) == ("answers", "1", False, b"mine")
    assert answer["error"].endswith("more than the broker takes; ask for a single camera")


@pytest.fixture
def written():
    """What the daemon's own handler writes of commands."""
    handler, logger = LimitedHandler(io.StringIO()), logging.getLogger("edge.commands")
    logger.addHandler(handler)
    yield lambda: handler.stream.getvalue().splitlines()
    logger.removeHandler(handler)


def test_the_log_says_which_camera_and_nonsense_keeps_nothing_out_of_it(make, written):
    asked = make(handler=lambda *_: {"warning": "not saved"})
    for _ in range(100):
        asked.ask(b"nonsense", camera="evil\nname")
        asked.answer()
    for camera in ("door", None):
        asked.ask({"id": f"of {camera}", "command": "pause"}, camera=camera)
        asked.answer()
    assert written() == [
        *["commands not taken: one for no camera of this node: must be a JSON object in UTF-8"] * CAUSE,
        "commands: pause of camera door carried out: not saved",
        "commands: pause of the node carried out: not saved",
    ]


def failing(camera, _arguments):
    """Carry out a command for any camera but two."""
    if camera == "broken":
        raise RuntimeError("a mistake of ours")
    if camera == "gone":
        raise CommandError("the node has no such camera")
    return {}


def test_commands_without_end_keep_no_failure_out_of_the_log(make, written):
    asked = make(handler=failing)
    for number in range(50):
        asked.ask({"id": str(number), "command": "pause"}, camera="gone" if number % 2 else "door")
        asked.answer()
    asked.ask({"id": "last", "command": "pause"}, camera="broken")
    asked.answer()
    lines = written()
    assert lines.count("commands: pause of camera door carried out") == CAUSE
    assert lines.count("commands: pause of camera gone failed: the node has no such camera") == CAUSE
    assert lines[2 * CAUSE] == "commands: pause of camera broken failed"


@pytest.mark.parametrize(
    ("payload", "name", "says"),
    [
        (b"", None, "JSON object in UTF-8"),
        (b"\xff{", None, "JSON object in UTF-8"),
        (b"[" * 3000, None, "JSON object in UTF-8"),
        (b"[]", None, "must be a JSON object"),
        ({"command": "pause"}, None, "id: must be text"),
        ({"id": 7, "command": "pause"}, None, "id: must be text"),
        ({"id": "", "command": "pause"}, None, "id: must be text"),
        ({"id": "x" * 129, "command": "pause"}, None, "id: must be text"),
        ({"id": "a"}, "a", "command: must be one of pause, resume"),
        ({"id": "a", "command": "format"}, "a", "command: must be one of pause, resume"),
        ({"id": "a", "command": ["pause"]}, "a", "command: must be one of pause, resume"),
        ({"id": "a", "command": "pause", "arguments": 1}, "a", "arguments: must be an object"),
    ],
)
def test_what_is_no_command_is_answered_with_what_is_wrong(make, payload, name, says):
    asked = make()
    asked.ask(payload)
    answer = asked.answer()
    assert (answer["id"], answer["ok"]) == (name, False)
    assert says in answer["error"]
    assert asked.calls == []
    assert asked.counts() == {"refused": 1}


def test_what_was_carried_out_is_a_line_of_the_log(make, caplog):
    caplog.set_level("INFO")
    asked = make()
    asked.ask({"id": "1", "command": "reload"})
    assert asked.answer()["ok"] is True
    eventually(lambda: "commands: reload of the node carried out" in caplog.text, 30, "line", lambda: caplog.text)


def test_what_is_not_allowed_is_answered_with_the_key_that_allows_it(make):
    asked = make(allow=("pause",))
    asked.ask({"id": "1", "command": "threshold", "arguments": {"tracking.enter": 0.1}})
    assert "commands.allow" in asked.answer()["error"]
    assert asked.calls == []


def test_retained_oversized_and_surplus_commands_are_dropped_without_an_answer():
    asked = Asked()
    asked.ask({"id": "1", "command": "pause"}, retained=True)
    asked.ask(b" " * (LARGEST + 1))
    asked.ask({"id": "1", "command": "pause"}, correlation=b" " * LARGEST)
    for number in range(WAITING + 3):  # nobody carries them out
        asked.ask({"id": str(number), "command": "pause"})
    assert asked.counts() == {"retained": 1, "oversized": 2, "busy": 3}
    assert asked.answers.empty()


def test_a_command_that_cannot_be_carried_out_says_why_and_the_next_one_is(make, caplog):
    asked = make(handler=failing)
    for camera in ("broken", "gone", "door"):
        asked.ask({"id": camera, "command": "pause"}, camera=camera)
    assert asked.answer()["error"] == "failed; the daemon's log says why"
    assert asked.answer()["error"] == "the node has no such camera"
    assert asked.answer()["ok"] is True
    assert "a mistake of ours" in caplog.text
    assert asked.counts() == {"failed": 2, "done": 1}


@given(st.binary(max_size=300) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_payload_is_fatal(payload):
    asked = Asked()
    content = payload if isinstance(payload, bytes) else payload.encode()
    answer = asked.commands._respond(Request(None, content, "answers"))
    validate("node/response", json.loads(json.dumps(answer)))
    assert not answer["ok"]


@given(
    st.fixed_dictionaries(
        {"id": st.text(max_size=140), "command": st.sampled_from([*ALL, "", "PAUSE"])},
        optional={"arguments": st.dictionaries(st.text(max_size=5), st.integers() | st.floats()) | st.none()},
    )
)
def test_a_command_is_carried_out_only_if_the_schema_could_allow_it(document):
    asked = Asked()
    answer = asked.commands._respond(Request(None, json.dumps(document).encode(), "answers"))
    if asked.calls:
        assert 1 <= len(document["id"]) <= 128
        assert document["command"] in ALL
    assert answer["ok"] is bool(asked.calls)


@pytest.mark.parametrize(
    ("topic", "may"),
    [
        ("emotion/clients/one", True),
        ("emotion/node/door/response", True),
        ("elsewhere/answers", False),
        ("emotion", False),
        ("emotion/+/answers", False),
        ("emotion/#", False),
        ("emotion/node/set", False),
        ("emotion/other/status", False),
        ("emotion/node/door/event", False),
    ],
)
def test_answers_go_below_the_base_where_they_are_taken_for_nothing_else(topic, may):
    assert may_answer_to("emotion", topic) is may


def test_every_result_has_its_series_and_a_command_under_way_for_too_long_is_seen():
    asked = Asked()
    assert set(asked.metrics.commands) == set(COMMANDS)
    assert not asked.commands.stuck(1e9)
    asked.commands._busy_since = 5.0
    assert not asked.commands.stuck(5.0 + edge.commands.STUCK)
    assert asked.commands.stuck(5.1 + edge.commands.STUCK)


def test_a_thread_that_died_is_noticed(monkeypatch):
    asked = Asked()
    monkeypatch.setattr(asked.commands, "_respond", lambda _request: {}["no answer"])
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    asked.commands.start()
    assert not asked.commands.dead()
    asked.ask({"id": "1", "command": "pause"})
    eventually(asked.commands.dead, 30, "dead thread")
