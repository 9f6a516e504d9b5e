"""Colour all the way: from the picture through crop, model file and classifier to what the command prints."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge.analyser import Analyser
from edge.bundle import read_bundle
from edge.classify import write_image
from edge.cli import cli
from edge.emotions import Classifier
from edge.metrics import Metrics
from tests.parts.colours import COLOURS, SIZE, write_colour_model
from tests.parts.samples import portrait

#: Blue, green, red as OpenCV has them.
TINTS = {"red": (0.35, 0.35, 1.0), "green": (0.35, 1.0, 0.35), "blue": (1.0, 0.35, 0.35)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_colour_model(tmp_path_factory.mktemp("colours") / "colours.tflite")


def tinted(colour):
    grey = cv2.cvtColor(cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return (grey * TINTS[colour]).astype(np.uint8)


@pytest.mark.parametrize("colour", COLOURS)
def test_classifier_takes_red_green_and_blue_in_this_order(model, colour):
    classifier = Classifier(read_bundle(model))
    assert (classifier.colour, classifier.labels) == ("rgb", COLOURS)
    crop = np.full((SIZE, SIZE, 3), 128, np.uint8)
    crop[..., COLOURS.index(colour)] = 192
    np.testing.assert_allclose(classifier.logits(crop), (crop[0, 0] - 128.0) / 128, atol=0.02)
    assert classifier(crop).argmax() == COLOURS.index(colour)


@pytest.mark.parametrize("colour", COLOURS)
def test_classify_sees_the_colour_of_a_face(model, tmp_path, colour):
    write_image(tmp_path / "face.png", tinted(colour))
    result = CliRunner().invoke(cli, ["classify", str(tmp_path / "face.png"), "--model", str(model), "--json"])
    assert result.exit_code == 0, result.output
    (picture,) = json.loads(result.stdout)
    (face,) = picture["faces"]
    assert list(face["probabilities"]) == list(COLOURS)
    assert face["emotion"] == colour


def test_daemon_sees_the_colour_and_knows_the_face_again(model):
    analyse = Analyser(read_bundle(model), 0.5, Metrics("node", "1"))
    (one,), (other,) = analyse(tinted("blue")), analyse(tinted("green"))
    assert [COLOURS[int(seen.probabilities.argmax())] for seen in (one, other)] == ["blue", "green"]
    assert one.look @ other.look > 0.9
