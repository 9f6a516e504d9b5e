"""Events: writing and reading, ids, times, the schema."""

import json
import math
import uuid
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.events import (
    SCHEMA,
    Box,
    Event,
    EventFace,
    FaceInView,
    decode_event,
    encode_faces,
    event_id,
    from_rfc3339,
    rfc3339,
    state,
)
from tests.parts.samples import LABELS, make_event
from tests.parts.schema import validate, validate_event

NAMES = st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True)
FRACTIONS = st.floats(0, 1)
#: Milliseconds since 1970, up to the year 2100.
MOMENTS = st.integers(0, 4_102_444_800_000).map(lambda milliseconds: milliseconds / 1000)
LAST = {
    "start": {"previous": None, "duration": None, "reason": None},
    "change": {"previous": "anger", "duration": 1.25, "reason": None},
    "end": {"previous": None, "duration": 3.5, "reason": "left"},
}


@st.composite
def events(draw):
    node, camera, epoch, seq, time = draw(NAMES), draw(NAMES), draw(st.integers(0)), draw(st.integers(1)), draw(MOMENTS)
    kind = draw(st.sampled_from(sorted(LAST)))
    return Event(
        id=event_id(node, camera, epoch, seq, time),
        epoch=epoch,
        seq=seq,
        node=node,
        camera=camera,
        type=kind,
        time=time,
        first_seen=draw(MOMENTS),
        face=EventFace(f"{node}-{camera}-{epoch}-{seq}", Box(*(draw(FRACTIONS) for _ in range(4))), draw(FRACTIONS)),
        emotion=draw(st.sampled_from(LABELS)),
        probability=draw(FRACTIONS),
        probabilities={label: draw(FRACTIONS) for label in LABELS},
        model=draw(st.text(min_size=1)),
        **LAST[kind],
    )


@given(events())
def test_event_written_and_read_is_the_same_and_keeps_to_the_schema(event):
    assert decode_event(event.encode()) == event
    validate_event(json.loads(event.encode()))


@given(st.lists(events(), max_size=3), MOMENTS, st.booleans())
def test_faces_in_view_keep_to_the_schema(seen, time, in_sight):
    faces = [
        FaceInView(e.face.id, e.face.box, e.face.confidence, in_sight, e.emotion, e.probability, e.probabilities)
        for e in seen
    ]
    document = json.loads(encode_faces("node", "camera", time, faces, "model 1"))
    validate("emotion/node/camera/faces", document)
    assert [face["id"] for face in document["faces"]] == [face.id for face in faces]
    assert from_rfc3339(document["time"]) == pytest.approx(time, abs=1e-3)
    with pytest.raises(jsonschema.ValidationError):
        validate("emotion/node/camera/faces", {**document, "faces": [{"id": "a"}]})


@pytest.mark.parametrize(
    "change",
    [
        {"id": str(uuid.UUID(int=0))},
        {"id": "no uuid"},
        {"schema": "emotion-edge/event/2"},
        {"seq": 0},
        {"epoch": 1.5},
        {"camera": "Front door"},
        {"type": "begin"},
        {"time": "2026-01-01T10:00:00.000"},
        {"time": "2026-02-30T10:00:00.000Z"},
        {"probability": 1.01},
        {"probabilities": {"neutral": 0.5, "anger": -0.1}},
        {"face": {"id": "x", "confidence": 0.5}},
        {"face": {"id": "x", "box": {"x": 1.2, "y": 0, "width": 1, "height": 1}, "confidence": 0.5}},
        {"duration": 2.0},
        {"previous": "anger"},
        {"reason": "left"},
        {"type": "end"},
        {"type": "end", "duration": -1, "reason": "left"},
        {"type": "end", "duration": 1, "reason": "bored"},
        {"type": "change", "duration": 1},
    ],
    ids=str,
)
def test_schema_refuses(change):
    document = json.loads(make_event().encode())
    validate_event(document)
    with pytest.raises(jsonschema.ValidationError):
        validate_event({**document, **change})


@pytest.mark.parametrize("name", sorted({"schema", *Event.__dataclass_fields__}))
def test_schema_and_decoder_want_every_field(name):
    document = json.loads(make_event().encode())
    del document[name]
    with pytest.raises(jsonschema.ValidationError, match=name):
        validate_event(document)
    with pytest.raises(ValueError, match=name):
        decode_event(json.dumps(document).encode())


def test_schema_and_decoder_take_unknown_fields():
    document = json.loads(make_event().encode())
    document["mood"] = {"new": True}
    document["face"]["age"] = 40
    document["face"]["box"]["depth"] = 2
    validate_event(document)
    assert decode_event(json.dumps(document).encode()) == make_event()


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x)).map(json.dumps))
@example(b"[]")
@example(b"{}")
@example(b"nonsense")
@example(b"\xff\xfe")
@example(json.dumps({"schema": SCHEMA}))
@example(json.dumps({**json.loads(make_event().encode()), "time": 5}))
@example(json.dumps({**json.loads(make_event().encode()), "time": "yesterday"}))
@example(json.dumps({**json.loads(make_event().encode()), "face": 5}))
def test_no_event_is_refused_with_a_value_error(payload):
    with pytest.raises(ValueError, match=r".+"):
        decode_event(payload)


def test_other_schema_is_named():
    payload = make_event().encode().replace(SCHEMA.encode(), b"emotion-edge/event/2")
    with pytest.raises(ValueError, match="'emotion-edge/event/2', expected 'emotion-edge/event/1'"):
        decode_event(payload)


@given(NAMES, NAMES, st.integers(0), st.integers(1), st.floats(0, 2**48 / 1000 - 1))
@example("n", "c", 1, 1, 1_700_000_000.0006)
@example("n", "c", 1, 1, 1.0009999)
@example("n", "c", 1, 1, 0.0025)
def test_ids_are_uuids_of_version_7_of_the_time_as_written(node, camera, epoch, seq, time):
    identity = uuid.UUID(event_id(node, camera, epoch, seq, time))
    assert (identity.version, identity.variant) == (7, uuid.RFC_4122)
    assert identity.int >> 80 == round(time * 1000)
    assert str(identity) == event_id(node, camera, epoch, seq, time)
    if time < 4e9:
        assert (identity.int >> 80) / 1000 == from_rfc3339(rfc3339(time))


@given(st.lists(st.tuples(NAMES, NAMES, st.integers(0, 3), st.integers(1, 3)), unique=True, min_size=2))
def test_ids_differ_with_node_camera_epoch_and_number(keys):
    assert len({event_id(*key, 1_700_000_000.0) for key in keys}) == len(keys)


def test_ids_sort_by_time():
    ids = [event_id("node", "camera", 1, seq, 1_700_000_000 + seq / 1000) for seq in range(1, 200)]
    assert ids == sorted(ids)


@given(MOMENTS)
def test_times_survive_to_the_millisecond(moment):
    assert from_rfc3339(rfc3339(moment)) == moment


@given(st.floats(0, 4e9))
@example(1.9996)
@example(59.9999)
@example(1_699_999_999.9995)
def test_times_are_rounded_not_cut(moment):
    assert math.isclose(from_rfc3339(rfc3339(moment)), moment, rel_tol=0, abs_tol=0.000501)


def test_time_looks_as_in_the_documentation():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.9996) == "2023-11-14T22:13:21.000Z"
    assert from_rfc3339("2023-11-14T23:13:20.5+01:00".replace(".5", ".500")) == 1_700_000_000.5


def test_states_are_short_json():
    assert state("offline", reason="lost") == b'{"state":"offline","reason":"lost"}'


def test_events_compare_by_value():
    assert replace(make_event(), seq=2) != make_event()
