"""Whole photographs: composition, grounds, and what is counted. The faces are of FER+: drawn ones are not found."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge.bundle import DEFAULT_MODEL
from edge.detector import Detector
from trainer.cli import main
from trainer.data.datasets import data_folder
from trainer.data.photographs import HEIGHT, WIDTH, photograph
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.on_photographs import LIGHTS, NOT_FOUND, Answers, measure, read_grounds

LABELS = ("a", "b")


def test_side_and_ground_of_a_photograph():
    ground = np.full((HEIGHT, WIDTH, 3), (10, 20, 30), np.uint8)
    scene = photograph(np.full((48, 48), 255, np.uint8), np.random.default_rng(3), ground)
    bright = (scene.picture > 130).all(axis=2)
    assert bright.sum() == pytest.approx(scene.side**2, rel=0.25)
    assert 60 <= scene.side <= 300
    assert (scene.picture[~cv2.dilate(bright.astype(np.uint8), np.ones((61, 61))).astype(bool)] == (10, 20, 30)).all()


def test_face_not_found_counts_as_an_error():
    truth = np.array([0, 0, 0, 1])
    given = {"even light": np.array([0, NOT_FOUND, 0, 1]), "dark": np.full(4, NOT_FOUND)}
    found = Answers(LABELS, truth, np.array([70.0, 120, 200, 200]), given).as_json()
    assert found["all"] == {
        "n": 4,
        "found": 0.75,
        "accuracy": 0.75,
        "mean_recall": pytest.approx((2 / 3 + 1) / 2),
        "recall": {"a": pytest.approx(2 / 3), "b": 1.0},
    }
    assert [found[part]["n"] for part in ("60–100 px", "100–180 px", "180–300 px")] == [1, 1, 2]
    assert found["100–180 px"]["accuracy"] == 0
    assert found["dark"]["found"] == 0


def test_lights_change_the_light():
    scene = photograph(np.full((48, 48), 128, np.uint8), np.random.default_rng(3))
    means = {name: float(light(scene).mean()) for name, light in LIGHTS.items()}
    assert means["dark"] < 0.4 * means["even light"]
    assert means["overexposed"] > 1.2 * means["even light"]


def test_grounds_are_pictures_and_frames_without_faces(tmp_path):
    face = read_ferplus(data_folder())["validation"].images[0]
    plain = np.full((300, 200, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "plain.png"), plain)
    cv2.imwrite(str(tmp_path / "person.png"), cv2.resize(face, (400, 400), interpolation=cv2.INTER_CUBIC))
    (tmp_path / "notes.txt").write_text("no picture")
    clip = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (200, 300))
    for _ in range(31):
        clip.write(plain)
    clip.release()
    grounds = read_grounds(tmp_path, Detector())
    assert len(grounds) == 4  # the picture, and frames 0, 15 and 30
    assert all(ground.shape == (HEIGHT, WIDTH, 3) for ground in grounds)


def test_same_seed_gives_the_same_answers_and_most_faces_are_found():
    first, second = (measure(DEFAULT_MODEL, data_folder(), 24, 5) for _ in range(2))
    assert first.as_json() == second.as_json()
    assert first.as_json()["all"]["found"] > 0.8
    assert first.as_json()["all"]["accuracy"] > 0.5


def test_command(tmp_path):
    def invoke(*arguments: str):
        return CliRunner().invoke(main, ["photographs", "--faces", "4", *arguments])

    shown, printed = invoke(), invoke("--json")
    assert shown.exit_code == printed.exit_code == 0, shown.output
    assert "light from a side" in shown.stdout
    assert json.loads(printed.stdout)["all"]["n"] == 4
    refused = invoke("--grounds", str(tmp_path))
    assert refused.exit_code == 2
    assert "no picture or clip without faces" in refused.stderr
