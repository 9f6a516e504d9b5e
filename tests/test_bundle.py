"""The model file: what passes, and that everything else is refused in one line."""

import hashlib
import io
import json
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle import DEFAULT_MODEL, SHIPPED, BundleError, read_bundle
from edge.litert import RuntimeMissingError
from tests.parts.samples import LABELS, SIDE, model_parts, write_model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "other.tflite"


def complaint(path):
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "emotion-trainer train" in message
    return message


def changed(key, **values):
    """Return model.json's section `key` with other values."""
    return {key: {**model_parts()[1][key], **values}}


def test_shipped_model_passes():
    bundle = read_bundle(DEFAULT_MODEL)
    assert bundle.info.labels == LABELS
    assert hashlib.sha256(bundle.content).hexdigest() == bundle.info.sha256
    assert DEFAULT_MODEL.read_bytes().startswith(bundle.content)
    assert bundle.info.input.shape == (bundle.info.crop.size, bundle.info.crop.size, 1)


def test_exactly_one_emotion_model_ships():
    detectors = ["blazeface_back.tflite", "blazeface_short.tflite"]
    assert sorted(path.name for path in SHIPPED.glob("*.tflite")) == [*detectors, "emotions.tflite"]


def test_shipped_metadata_is_stored_plainly_with_a_fixed_date():
    with zipfile.ZipFile(DEFAULT_MODEL) as archive:
        assert sorted(archive.namelist()) == ["labels.txt", "model.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_rewritten_model_passes_with_unknown_keys(path):
    assert read_bundle(write_model(path, mood="new")).info == read_bundle(DEFAULT_MODEL).info


def test_compressed_metadata_passes(path):
    assert read_bundle(write_model(path, compression=zipfile.ZIP_DEFLATED)).info.labels == LABELS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": "neutral\nhappiness\n"}, "labels.txt says ['neutral', 'happiness'], model.json says"),
        ({"labels": "\n".join(reversed(LABELS)) + "\n"}, "labels.txt says ['contempt'"),
        ({"omit": "labels.txt"}, "labels.txt"),
        ({"omit": "model.json"}, "model.json"),
        ({"sha256": "0" * 64}, "damaged"),
        ({"sha256": "short"}, "model.json: sha256"),
        ({"sha256": None}, "model.json: sha256: Field required"),
        ({"schema": "emotion-edge/model/2"}, "model.json: schema"),
        ({"name": "Other Model"}, "model.json: name"),
        ({"temperature": 0}, "model.json: temperature"),
        ({"temperature": "warm"}, "model.json: temperature"),
        ({"agreement": 1.5}, "model.json: agreement"),
        (changed("input", shape=[32, 32, 1]), f"crop size {SIDE} does not fit the input (32, 32, 1)"),
        (
            {**changed("input", shape=[32, 32, 1]), **changed("crop", size=32)},
            f"the input is int8 (1, {SIDE}, {SIDE}, 1), model.json says int8 (1, 32, 32, 1)",
        ),
        (changed("input", shape=[SIDE, SIDE, 3]), f"colour grey does not fit the input ({SIDE}, {SIDE}, 3)"),
        (changed("input", colour="rgb"), f"colour rgb does not fit the input ({SIDE}, {SIDE}, 1)"),
        (
            changed("input", shape=[SIDE, SIDE, 3], colour="rgb"),
            f"the input is int8 (1, {SIDE}, {SIDE}, 1), model.json says int8 (1, {SIDE}, {SIDE}, 3)",
        ),
        (changed("input", shape=[SIDE, SIDE, 2]), "model.json: input.shape.2"),
        (changed("input", colour="bgr"), "model.json: input.colour"),
        (changed("input", deviation=0), "model.json: input.deviation"),
        (changed("crop", margin=float("inf")), "model.json: crop.margin"),
        (changed("crop", margin=1e9), "model.json: crop.margin"),
        (changed("input", mean=float("nan")), "model.json: input.mean"),
        ({"temperature": float("inf")}, "model.json: temperature"),
        (changed("crop", margin=0.5), "model.json: crop.margin"),
        (changed("crop", eye_line=1), "model.json: crop.eye_line"),
        ({"network": b"TFL3 is not enough" * 9}, "no TFLite network"),
        ({"network": b""}, "no TFLite network"),
    ],
    ids=str,
)
def test_metadata_that_disagrees_is_refused(path, changes, says):
    assert says in complaint(write_model(path, **changes))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (LABELS[:7], "the output is int8 (1, 8), model.json says int8 (1, 7)"),
        ((*LABELS[:7], "neutral"), "names a label twice"),
    ],
)
def test_labels_that_do_not_fit_the_network_are_refused(path, labels, says):
    model_json = {**model_parts()[1], "labels": list(labels)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("labels.txt", "\n".join(labels) + "\n")
        archive.writestr("model.json", json.dumps(model_json))
    path.write_bytes(model_parts()[0] + packed.getvalue())
    assert says in complaint(path)


def test_other_network_is_refused(path):
    detector = (SHIPPED / "blazeface_back.tflite").read_bytes()
    path.write_bytes(detector)
    assert "no model metadata inside" in complaint(path)
    says = complaint(write_model(path, network=detector))
    assert f"the input is float32 (1, 256, 256, 3), model.json says int8 (1, {SIDE}, {SIDE}, 1)" in says


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"something else", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_model_is_refused(path, content):
    path.write_bytes(content)
    assert "no model metadata inside" in complaint(path)


def test_model_without_zip_is_refused(path):
    path.write_bytes(model_parts()[0])
    assert "no model metadata inside" in complaint(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_model_is_refused(path, share):
    content = DEFAULT_MODEL.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    complaint(path)


def test_missing_model_is_named(path, tmp_path):
    assert "No such file" in complaint(path)
    assert "directory" in complaint(tmp_path)


@given(st.integers(0), st.integers(1, 255))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)
def test_flipped_byte_of_the_network_is_refused(path, place, flip):
    content = bytearray(DEFAULT_MODEL.read_bytes())
    content[place % len(model_parts()[0])] ^= flip
    path.write_bytes(content)
    assert "the file is damaged" in complaint(path)


@given(st.integers(0), st.integers(1, 255), st.booleans())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150
)
def test_flipped_byte_of_the_metadata_is_refused_or_harmless(path, place, flip, compressed):
    write_model(path, compression=zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    start = len(model_parts()[0])
    content[start + place % (len(content) - start)] ^= flip
    path.write_bytes(content)
    with suppress(BundleError):
        bundle = read_bundle(path)
        assert bundle.info == read_bundle(DEFAULT_MODEL).info
        assert bundle.content == model_parts()[0]


def test_missing_runtime_is_not_blamed_on_the_model(monkeypatch):
    monkeypatch.setenv("EMOTION_EDGE_RUNTIME", "none-such")
    with pytest.raises(RuntimeMissingError, match="EMOTION_EDGE_RUNTIME=none-such: use one of ai-edge-litert"):
        read_bundle(DEFAULT_MODEL)


def test_crop_rule_is_that_of_the_metadata(path):
    crop = {"size": SIDE, "margin": 3.25, "eye_line": 0.4}
    rule = read_bundle(write_model(path, crop=crop)).info.crop.rule()
    np.testing.assert_allclose((rule.size, rule.margin, rule.eye_line), tuple(crop.values()))
