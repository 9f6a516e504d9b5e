"""What a worker does with a picture: whole, only where faces are expected, or with faces that are known."""

import numpy as np
import pytest

from edge.analyser import Analyser
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.events import Box
from edge.metrics import Metrics
from edge.schedule import Look
from edge.tracking import Known, Place
from tests.parts.samples import LABELS, portrait


@pytest.fixture
def metrics():
    return Metrics("node", "0")


def test_finds_the_face_in_fractions_of_the_picture(metrics):
    (seen,) = Analyser(read_bundle(DEFAULT_MODEL), 0.5, metrics)(portrait())
    assert seen.probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert len(seen.probabilities) == len(LABELS)
    assert seen.box.x == pytest.approx(271 / 640, abs=0.03)
    assert seen.box.y == pytest.approx(135 / 480, abs=0.03)
    assert seen.box.height == pytest.approx(138 / 480, rel=0.1)
    assert [metrics.inferences[stage]._value.get() for stage in ("detect", "classify")] == [1, 1]


def test_of_an_empty_picture_runs_no_classifier(metrics):
    assert Analyser(read_bundle(DEFAULT_MODEL), 0.5, metrics)(np.zeros((48, 64, 3), np.uint8)) == []
    assert metrics.inferences["classify"]._value.get() == 0


def test_looks_only_where_it_is_told(metrics):
    analyse = Analyser(read_bundle(DEFAULT_MODEL), 0.5, metrics)
    (whole,) = analyse(portrait())
    (near,) = analyse(portrait(), Look((Place(whole.box),)))
    assert near.box.x == pytest.approx(whole.box.x, abs=0.02)
    assert near.box.height == pytest.approx(whole.box.height, rel=0.15)
    assert near.look @ whole.look > 0.8
    assert analyse(portrait(), Look((Place(Box(0.0, 0.8, 0.1, 0.1)),))) == []
    assert analyse(portrait(), Look(())) == []
    assert [metrics.inferences[stage]._value.get() for stage in ("detect", "regions", "classify")] == [1, 3, 2]


def test_a_face_seen_just_now_is_found_again_without_a_second_look(metrics):
    analyse = Analyser(read_bundle(DEFAULT_MODEL), 0.5, metrics)
    (whole,) = analyse(portrait())
    runs = metrics.inferences["regions"]._value.get()
    turned = whole.landmarks[::-1]  # so that what is read depends on them
    (again,) = analyse(portrait(), Look(recent=(Known(7, whole.box, turned, 0.9),)))
    (read,) = analyse(portrait(), Look((), (Known(7, whole.box, turned, 0.9),)))
    assert (again.box, again.confidence, again.number) == (whole.box, whole.confidence, None)
    assert again.landmarks is None
    assert again.probabilities == pytest.approx(read.probabilities)
    assert again.probabilities != pytest.approx(whole.probabilities, abs=0.01)
    assert metrics.inferences["regions"]._value.get() == runs
    assert analyse(portrait(), Look(recent=(Known(7, Box(0.0, 0.0, 0.1, 0.1), turned, 0.9),)))[0].landmarks is not None
    assert metrics.inferences["regions"]._value.get() == runs + 1


def test_reads_a_known_face_without_looking_for_it(metrics):
    analyse = Analyser(read_bundle(DEFAULT_MODEL), 0.5, metrics)
    (whole,) = analyse(portrait())
    known = Known(7, whole.box, whole.landmarks, whole.confidence)
    (read,) = analyse(portrait(), Look((), (known,)))
    assert (read.number, read.look) == (7, None)
    assert read.probabilities == pytest.approx(whole.probabilities, abs=0.01)
    assert (read.box.x, read.box.height) == (pytest.approx(whole.box.x), pytest.approx(whole.box.height))
    assert [metrics.inferences[stage]._value.get() for stage in ("detect", "regions", "classify")] == [1, 1, 2]
