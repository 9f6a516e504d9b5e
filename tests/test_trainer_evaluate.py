"""What `emotion-trainer evaluate` measures: figures of every protocol, peers beside ours, other labels and data."""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge.bundle import read_bundle
from tests.parts.trainer_faces import draw_ck48, draw_ferplus, draw_folders, write_config
from tests.parts.trainer_models import Files, describe, write_model, write_peer
from trainer.cli import main
from trainer.data.datasets import LABELS
from trainer.data.readers.ferplus import read_ferplus

PROTOCOLS = ["FER+ 8", "FER+ 7", "FER+ strict", "FER+ 8 clean", "FER+ 7 clean", "FER+ strict clean"]
PROTOCOLS += ["CK+ cross B", "CK+ cross C"]
SEVEN = tuple(label for label in LABELS if label != "contempt")


@dataclass(frozen=True)
class Drawn:
    data: Path
    ours: Files
    seven: Files


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Drawn:
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "seven").mkdir()
    data = draw_ck48(draw_ferplus(folder / "data", each=(4, 6, 3)))
    return Drawn(data, write_model(folder), write_model(folder / "seven", SEVEN, temperature=2.0))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *(str(argument) for argument in arguments)])


def measured(files: Files, data: Path, *arguments: object) -> Any:
    result = invoke(files.model, "--float", files.twin, "--data", data, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def one_line(result: Result) -> str:
    """The only line on stderr of a command that refused its input."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    assert "Traceback" not in result.output
    return line


@pytest.fixture(scope="module")
def report(drawn, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("once"))
        return measured(drawn.ours, drawn.data)


def test_json_holds_the_figures_of_every_protocol(drawn, report):
    content = drawn.ours.model.read_bytes()
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    assert report["bytes"] == len(content)
    assert (report["split"], report["variant"]) == ("validation", "aligned")
    for networks in (report, report["raw"]):
        assert list(networks["int8"]) == PROTOCOLS
        assert list(networks["float"]) == PROTOCOLS
    assert [report["int8"][name]["n"] for name in PROTOCOLS] == [48, 42, 48, 48, 42, 48, 1, 2]
    eight = report["int8"]["FER+ 8"]
    assert eight["accuracy"] == pytest.approx(np.trace(eight["confusion"]) / 48, abs=1e-6)
    assert eight["accuracy"] > 0.5
    assert eight["accuracy"] <= eight["top2"] <= 1
    assert set(eight["per_class"]) == set(LABELS)
    for key in ("accuracy", "macro_f1"):
        low, high = eight["intervals"][key]
        assert low <= eight[key] <= high
    assert report["agreement"] >= 0.9
    assert report["drop"] == pytest.approx(report["float"]["FER+ 8"]["accuracy"] - eight["accuracy"], abs=2e-6)
    assert 0 <= report["ece"] <= 1
    assert report["faces_not_found"]["FER+"] <= 48
    assert (report["peers"], report["comparison"], report["ms_ratio"]) == ({}, {}, None)
    assert report["ms"] == report["latency"]["int8"]["median"] > 0


def test_contempt_is_never_answered_in_ferplus_7_and_neutral_neither_in_cross_b(report):
    seven = np.array(report["int8"]["FER+ 7"]["confusion"])
    assert not seven[:, LABELS.index("contempt")].any()
    cross = np.array(report["int8"]["CK+ cross B"]["confusion"])
    assert not cross[:, [LABELS.index("contempt"), LABELS.index("neutral")]].any()
    assert np.array(report["int8"]["FER+ 8"]["confusion"])[:, LABELS.index("contempt")].any()


def test_test_split_is_recorded_and_validation_is_not(drawn, tmp_path):
    looks = tmp_path / "looks.jsonl"
    common = (drawn.ours.model, "--float", drawn.ours.twin, "--data", drawn.data, "--looks", looks)
    assert invoke(*common).exit_code == 0
    assert not looks.exists()
    for _ in range(2):
        result = invoke(*common, "--split", "test")
        assert result.exit_code == 0, result.output
    first, second = (json.loads(line) for line in looks.read_text().splitlines())
    assert first["file"] == "tiny.tflite"
    assert first["sha256"] == second["sha256"] == hashlib.sha256(drawn.ours.model.read_bytes()).hexdigest()
    assert first["int8"]["FER+ 8"]["n"] == 24
    assert first["float"]["CK+ cross C"]["n"] == 4
    assert set(first["int8"]["FER+ strict"]) == {"accuracy", "macro_f1", "n"}
    for text in ("FER+ strict clean", "precision / recall / F1", "rows are the truth", "raw: accuracy", "top-2"):
        assert text in result.stdout


def test_without_float_twin_or_a_data_set_it_says_so(drawn, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(drawn.data / "ferplus", data / "ferplus")
    alone = shutil.copy(drawn.ours.model, tmp_path)
    result = invoke(alone, "--data", data, "--json")
    assert result.exit_code == 0, result.output
    assert "ck48.tar: no such file" in result.stderr
    assert "only the int8 network" in result.stderr
    report = json.loads(result.stdout)
    assert (report["float"], report["agreement"], report["drop"]) == (None, None, None)
    assert not any(name.startswith("CK+") for name in report["int8"])
    shutil.copy(drawn.ours.twin, tmp_path)  # where `train` writes it
    beside = json.loads(invoke(alone, "--data", data, "--json").stdout)
    assert beside["agreement"] > 0.9


def test_with_ck_alone_there_is_nothing_to_calibrate_on(drawn, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(drawn.data / "ck48", data / "ck48")
    report = measured(drawn.ours, data)
    assert list(report["int8"]) == ["CK+ cross B", "CK+ cross C"]
    assert (report["ece"], report["agreement"]) == (None, None)


def test_a_model_without_contempt_errs_on_its_faces(drawn):
    report = measured(drawn.seven, drawn.data)
    assert report["labels"] == list(SEVEN)
    eight, seven = report["int8"]["FER+ 8"], report["int8"]["FER+ 7"]
    assert (eight["n"], seven["n"]) == (48, 42)
    assert not np.array(eight["confusion"])[:, LABELS.index("contempt")].any()
    assert eight["accuracy"] * 48 == pytest.approx(seven["accuracy"] * 42, abs=1e-3)
    assert eight["per_class"]["contempt"] == {"precision": 0, "recall": 0, "f1": 0, "support": 6}
    assert report["agreement"] >= 0.9


def test_a_model_in_colour_sees_grey_faces_three_times(drawn, tmp_path):
    files = write_model(tmp_path, colour="rgb")
    assert read_bundle(files.model).info.input.shape == (32, 32, 3)
    report = measured(files, drawn.data)
    assert report["int8"]["FER+ 8"]["accuracy"] > 0.5
    assert report["agreement"] >= 0.9


def test_peers_stand_beside_ours(drawn, tmp_path):
    # One answers happiness to all, the other ours cannot be told from: it is our own float network.
    flat = write_peer(tmp_path / "flat.tflite", 48, np.eye(8, dtype=np.float32)[1:2])
    same = write_peer_like(drawn.ours.twin, tmp_path / "same.tflite")
    described = (
        "--peer-description", describe(tmp_path / "flat.yaml", flat),
        "--peer-description", describe(tmp_path / "same.yaml", same, scale=1 / 128, offset=-1, source="here"),
    )  # fmt: skip
    report = measured(drawn.ours, drawn.data, "--peer", same, "--peer", flat, *described)
    assert list(report["peers"]) == ["same", "flat"]
    found = report["peers"]["flat"]
    assert (found["file"], found["bytes"]) == (str(flat), flat.stat().st_size)
    assert list(found["figures"]) == PROTOCOLS
    assert found["figures"]["FER+ 8"]["accuracy"] == 0.125
    assert found["figures"]["FER+ 8"]["intervals"]["accuracy"][0] < 0.125
    assert [found["figures"][name]["n"] for name in PROTOCOLS] == [48, 42, 48, 48, 42, 48, 1, 2]
    # The peer sees the stored picture whole, as our float network does in the raw variant; 48 → 32 its own way.
    float_raw = report["raw"]["float"]["FER+ 8"]["accuracy"]
    assert report["peers"]["same"]["figures"]["FER+ 8"]["accuracy"] == pytest.approx(float_raw, abs=0.15)
    assert report["peers"]["same"]["source"] == "here"

    flatly = report["comparison"]["flat"]["FER+ 8"]["accuracy"]
    assert flatly["difference"] == pytest.approx(report["int8"]["FER+ 8"]["accuracy"] - 0.125, abs=2e-6)
    assert flatly["verdict"] == "better"
    assert flatly["interval"][0] > 0
    assert set(report["comparison"]["same"]) == set(PROTOCOLS)

    assert list(report["latency"]) == ["int8", "same", "flat"]
    assert report["ms_ratio"] == report["latency"]["same"]["ratio"] > 0
    assert "ratio" not in report["latency"]["int8"]
    table = invoke(drawn.ours.model, "--float", drawn.ours.twin, "--data", drawn.data, "--peer", flat, *described[:2])
    assert "int8 less flat" in table.stdout
    assert "better" in table.stdout


def write_peer_like(twin: Path, path: Path) -> Path:
    """Convert a float network as it is, so that it is a peer of which everything is known."""
    import keras
    import tensorflow as tf

    from trainer.quiet import silence

    converter = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(twin, compile=False))
    with silence():
        path.write_bytes(converter.convert())
    return path


def test_a_peer_of_one_channel_has_one_scale(drawn, tmp_path):
    from trainer.measuring.peers import PeerError, read_peers

    peer = write_peer_like(drawn.ours.twin, tmp_path / "peer.tflite")
    with pytest.raises(PeerError, match="takes one channel, its description has three of scale or offset; leave one"):
        read_peers([peer], [describe(tmp_path / "peer.yaml", peer, scale=[1, 1, 1])])


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
def test_a_peer_gets_its_pictures_as_described(tmp_path, colour, quantised):
    from trainer.measuring.peers import read_peers

    weights = np.array([[1, 0, 0, 0.5, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]], np.float32)
    peer = write_peer(tmp_path / "peer.tflite", 40, weights, quantised)
    scale, offset = [1 / 255, 1 / 510, 1 / 1020], [0.0, 0.1, 0.2]
    text = describe(
        tmp_path / "peer.yaml", peer, labels=list(SEVEN), colour=colour, resize="area", scale=scale, offset=offset
    )
    (found,) = read_peers([peer], [text])
    assert (found.name, found.labels) == ("peer", SEVEN)
    picture = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    picture[..., 0] //= 2
    seen = {"rgb": picture, "bgr": picture[..., ::-1], "grey": cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]}
    small = cv2.resize(np.ascontiguousarray(seen[colour]), (40, 40), interpolation=cv2.INTER_AREA).reshape(40, 40, -1)
    expected = (small * scale + offset).mean(axis=(0, 1)) @ weights
    np.testing.assert_allclose(found.logits(picture), expected, atol=0.02 if quantised else 1e-5)


def test_a_peer_may_answer_probabilities(tmp_path):
    from edge.emotions import softmax
    from trainer.measuring.peers import read_peers

    weights = np.arange(8, dtype=np.float32)[None]
    peer = write_peer(tmp_path / "peer.tflite", 48, weights, softmax=True)
    text = describe(tmp_path / "peer.yaml", peer, output="probabilities")
    (found,) = read_peers([peer], [text])
    logits = found.logits(np.full((48, 48), 51, np.uint8))
    np.testing.assert_allclose(softmax(logits), softmax(0.2 * np.arange(8)), atol=1e-5)


def test_peers_that_cannot_be_measured_are_refused_in_a_line(drawn, tmp_path):
    peer = write_peer(tmp_path / "peer.tflite", 48, np.eye(8, dtype=np.float32)[:1])
    digest = hashlib.sha256(peer.read_bytes()).hexdigest()

    def refused(*arguments: object) -> str:
        return one_line(invoke(drawn.ours.model, "--data", drawn.data, *arguments))

    assert "no.tflite: No such file" in refused("--peer", "no.tflite")
    line = refused("--peer", peer)
    assert digest in line
    assert "--peer-description" in line
    assert "no.yaml: No such file" in refused("--peer", peer, "--peer-description", "no.yaml")

    def described(**changes: object) -> tuple[object, ...]:
        return "--peer", peer, "--peer-description", describe(tmp_path / "peer.yaml", peer, **changes)

    assert "0.colour" in refused(*described(colour="blue"))
    assert "has 7 labels" in refused(*described(labels=list(SEVEN)))
    assert "set colour: grey" in refused(*described(colour="rgb"))
    assert "would be called int8" in refused(*described(name="int8"))
    assert "would be called peer" in refused(*described(), "--peer", peer)
    assert "only 1 are in FER+" in refused(*described(labels=["neutral", *"abcdefg"]))
    (tmp_path / "list.yaml").write_text("{")
    assert "mend the YAML" in refused("--peer", peer, "--peer-description", tmp_path / "list.yaml")
    text = tmp_path / "text.tflite"
    text.write_text("no network")
    line = refused("--peer", text, "--peer-description", describe(tmp_path / "text.yaml", text))
    assert "text.tflite: no TFLite network" in line


def test_shipped_descriptions_name_the_peer_of_the_figures():
    from trainer.measuring.peers import KNOWN, read_descriptions

    (vicksam,) = read_descriptions(KNOWN)
    assert (vicksam.name, vicksam.labels, vicksam.colour) == ("vicksam-pd", LABELS, "grey")


def test_a_model_is_measured_on_its_own_data(drawn, tmp_path):
    data = tmp_path / "data"
    draw_folders(data / "mine", {f"{split}/{label}": 6 for split in ("train", "validation", "test") for label in SEVEN})
    config = write_config(tmp_path / "mine.yaml", data={"source": "folders", "path": "mine"}, name="mine")
    report = measured(drawn.seven, data, "--config", config, "--set", "seed=3")
    assert list(report["int8"]) == ["all faces"]
    assert report["int8"]["all faces"]["n"] == 42
    assert set(report["int8"]["all faces"]["per_class"]) == set(SEVEN)
    assert report["agreement"] >= 0.9
    assert report["ece"] is not None
    told = invoke(drawn.seven.model, "--data", data, "--config", config, "--split", "test")
    assert told.exit_code == 0, told.output
    assert re.search(r"int8 and float agree on [0-9.]+% of all faces, accuracy of int8 less float", told.stdout)
    assert "peers" not in told.stdout  # there are none
    looks = drawn.seven.model.parent / "test_looks.jsonl"
    assert json.loads(looks.read_text())["int8"]["all faces"]["n"] == 42
    # Without a model it is the one that `train` writes.
    line = one_line(invoke("--config", config, "--data", data))
    assert "trainer/runs/mine/mine.tflite" in line


def test_what_cannot_be_measured_is_refused(drawn, tmp_path):
    broken = tmp_path / "broken.tflite"
    content = bytearray(drawn.ours.model.read_bytes())
    content[len(content) // 3] ^= 1
    broken.write_bytes(content)
    common = ("--data", drawn.data)
    assert "damaged" in one_line(invoke(broken, *common))
    assert "no such file" in one_line(invoke(drawn.ours.model, "--float", "no.keras", *common))
    (tmp_path / "bad.keras").write_text("not a network")
    line = one_line(invoke(drawn.ours.model, "--float", "bad.keras", *common))
    assert "bad.keras: no Keras model" in line
    line = one_line(invoke(drawn.ours.model, "--float", drawn.seven.twin, *common))
    assert "name its float network" in line
    (tmp_path / "empty").mkdir()
    line = one_line(invoke(drawn.ours.model, "--float", drawn.ours.twin, "--data", tmp_path / "empty"))
    assert "neither ferplus.tar nor ck48.tar" in line
    assert "name its file with --report" in one_line(invoke(drawn.ours.model, "--with-faces", *common))
    assert "--config" in one_line(invoke(drawn.ours.model, "--set", "seed=1", *common))


def test_spread_puts_logits_under_the_labels_of_the_data():
    from trainer.measuring.questions import spread

    logits = np.array([[1, 2, 3]], np.float32)
    wide = spread(logits, ("b", "unknown", "a"), ("a", "b", "c"))
    assert wide.tolist() == [[3, 1, -np.inf]]


def test_pictures_change_colour_both_ways(drawn):
    from trainer.measuring.questions import coloured

    grey = read_ferplus(drawn.data)["test"].images
    rgb = coloured(grey, "rgb")
    assert rgb.shape == (24, 48, 48, 3)
    assert (coloured(rgb, "grey") == grey).all()
    assert coloured(grey, "grey") is grey
    assert coloured(rgb, "rgb") is rgb
