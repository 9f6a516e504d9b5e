"""YuNet in place of the detector that ships. The file lies in `$EMOTION_PEERS`, ../shared/peers by default."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edge.analyser import Analyser
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.demo import CLIP
from edge.detector import Detector
from edge.faces import LEFT_EYE, MOUTH, NOSE, RIGHT_EYE
from edge.metrics import Metrics
from edge.yunet import DetectorError, YuNet, read_detector
from tests.parts.samples import LABELS, portrait

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("EMOTION_PEERS", ROOT / "../shared/peers")).resolve()
FILE = PEERS / "face_detection_yunet.onnx"


@pytest.fixture(scope="module")
def content():
    assert FILE.is_file(), f"{FILE}: no such file; name the folder with it in $EMOTION_PEERS"
    return FILE.read_bytes()


def test_no_file_named_is_no_detector():
    assert read_detector(None) is None


@pytest.mark.parametrize("size", [(640, 480), (64, 48), (1920, 1440), (333, 250)])
def test_finds_the_face_that_the_shipped_detector_finds(content, size):
    picture = cv2.resize(portrait(), size)
    (face,), (shipped,) = YuNet(content, 0.5)(picture), Detector(0.5)(picture)
    between_eyes = np.hypot(*(shipped.landmarks[RIGHT_EYE] - shipped.landmarks[LEFT_EYE]))
    apart = np.linalg.norm(face.landmarks - shipped.landmarks, axis=1) / between_eyes
    assert max(apart[[LEFT_EYE, RIGHT_EYE, NOSE, MOUTH]]) < 0.3
    assert face.landmarks.shape == shipped.landmarks.shape
    assert np.allclose(face.box, shipped.box, atol=0.6 * between_eyes)
    assert 0.5 <= face.confidence <= 1


def test_one_detector_takes_pictures_of_any_size_and_grey_ones(content):
    find = YuNet(content, 0.5)
    assert find(np.zeros((1, 1, 3), np.uint8)) == find(np.zeros((2, 1000, 3), np.uint8)) == []
    (grey,) = find(cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY))
    wide = cv2.copyMakeBorder(portrait(), 0, 0, 0, 640, cv2.BORDER_CONSTANT)
    (coloured,) = find(wide)
    assert np.allclose(grey.landmarks, coloured.landmarks, atol=8)


def test_threshold_is_the_least_confidence(content):
    (face,) = YuNet(content, 0.3)(portrait())
    assert YuNet(content, face.confidence - 0.01)(portrait())
    assert not YuNet(content, face.confidence + 0.01)(portrait())


def test_analyser_looks_at_whole_pictures_with_it(content):
    (seen,) = Analyser(read_bundle(DEFAULT_MODEL), 0.5, Metrics("node", "1"), content)(portrait())
    (face,) = YuNet(content, 0.5)(portrait())
    assert seen.confidence == face.confidence
    assert seen.box.x == pytest.approx(face.box[0] / 640)
    assert LABELS[int(np.argmax(seen.probabilities))] == "happiness"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda _: b"", "no YuNet"),
        (lambda _: b"not a model", "no YuNet"),
        (lambda good: good[: len(good) // 2], "no YuNet"),
        (lambda _: DEFAULT_MODEL.read_bytes(), "no YuNet"),
        (lambda good: good[:100_000] + bytes(byte ^ 0x40 for byte in good[100_000:140_000]) + good[140_000:], "YuNet"),
    ],
    ids=["empty", "text", "half", "another kind of model", "flipped bits"],
)
def test_bad_file_is_one_line_that_names_it(content, tmp_path, capfd, damage, says):
    path = tmp_path / "yunet.onnx"
    path.write_bytes(damage(content))
    with pytest.raises(DetectorError) as caught:
        read_detector(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("command", [["check"], ["run", "--config"], ["replay", str(CLIP), "--config"]])
def test_missing_file_is_exit_2(tmp_path, command):
    config = tmp_path / "edge.yaml"
    config.write_text("cameras:\n  door:\n    source: 0\ndetector:\n  model: yunet.onnx\n")
    result = _emotion_edge(*command, config)
    assert result.returncode == 2
    assert f"{tmp_path / 'yunet.onnx'}: No such file" in result.stderr
    assert "detector.model" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_replay_of_settings_that_name_it(content, tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(content)
    config = tmp_path / "edge.yaml"
    named = {"cameras": {"door": {"source": 0}}, "detector": {"model": "yunet.onnx"}}
    config.write_text(yaml.safe_dump(named))
    good = _emotion_edge("check", config)
    assert (good.returncode, good.stderr) == (0, ""), "OpenCV keeps its warnings to itself"
    runs = [_emotion_edge("replay", CLIP, "--config", config, "--workers", workers) for workers in (1, 2)]
    assert runs[0].stdout == runs[1].stdout
    events = [json.loads(line) for line in runs[0].stdout.splitlines()]
    assert [event["type"] for event in events].count("start") == [event["type"] for event in events].count("end") >= 1
    shipped = _emotion_edge("replay", CLIP).stdout.splitlines()
    assert [json.loads(line)["type"] for line in shipped].count("start") == sum(e["type"] == "start" for e in events)
    assert events[0]["face"]["box"] != json.loads(shipped[0])["face"]["box"]


def _emotion_edge(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
