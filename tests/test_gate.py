"""What a frame must pass before it is analysed."""

from dataclasses import replace

import numpy as np
import pytest

from edge.frames import Frame
from edge.gate import Gate, Motion, Rate
from edge.settings import CameraSettings

RNG = np.random.default_rng(1)
SCENE = RNG.integers(40, 200, (24, 32, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)


def gate(following=lambda: False, **settings):
    return Gate(CameraSettings(source="0", **settings), following)


def test_unwanted_frames_are_refused_unseen_and_what_is_no_picture_does_not_count():
    passes = gate(max_fps=5)
    nothing = np.zeros((0, 0, 3), np.uint8)
    assert passes.wanted(0.0)
    assert passes(frame(nothing)) == "unusable"
    assert passes.wanted(0.04), "instead of the one that was none"
    assert isinstance(passes(frame(SCENE, 0.04)), Frame)
    assert not passes.wanted(0.08)
    assert passes(replace(frame(nothing, 0.08), refused=True)) == "rate"


def frame(image, time=0.0):
    return Frame(image, time, time, time)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (15, 640), (480, 15)])
def test_what_is_no_picture_is_refused(shape):
    passes = gate(rotation=90, motion=0.1, max_fps=5)
    assert passes(frame(np.zeros((*shape, 3), np.uint8))) == "unusable"
    assert isinstance(passes(frame(SCENE)), Frame), "and leaves no trace"


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_pictures_are_turned_clockwise(rotation, corner):
    image = np.zeros((20, 30, 3), np.uint8)
    image[0, 0] = 255
    turned = gate(rotation=rotation)(frame(image)).image
    assert turned.shape == ((30, 20, 3) if rotation in (90, 270) else (20, 30, 3))
    assert turned[corner].sum() == 765
    assert turned.sum() == 765


@pytest.mark.parametrize(("rate", "most", "passed"), [(30, 10, 100), (25, 10, 100), (10, 15, 100), (10, 0, 100)])
def test_rate_is_kept_on_average(rate, most, passed):
    limit = Rate(most)
    assert sum(limit.due(number / rate) for number in range(10 * rate)) == pytest.approx(passed, abs=1)


def test_camera_of_the_very_rate_loses_nothing_to_jitter():
    limit = Rate(10)
    rng = np.random.default_rng(2)
    passed = sum(limit.due(number / 10 + rng.uniform(-0.01, 0.01)) for number in range(1000))
    assert passed == 1000


def test_rate_does_not_catch_up_after_a_pause():
    limit = Rate(10)
    assert limit.due(0)
    assert [limit.due(100 + 0.01 * number) for number in range(11)].count(True) == 2


def noisy():
    return np.clip(SCENE + RNG.normal(0, 4, SCENE.shape), 0, 255).astype(np.uint8)


def with_square(left, size=40):
    image = noisy()
    image[100 : 100 + size, left : left + size] = 255
    return image


def test_still_scenes_pass_once_a_second_and_moving_ones_always():
    motion = Motion(0.005)
    still = [motion.seen(noisy(), 0.1 * number) for number in range(100)]
    assert all(still[:10]), "held after the first"
    assert 7 <= sum(still[20:]) <= 9
    assert all(motion.seen(with_square(10 + 3 * number), 10 + 0.1 * number) for number in range(20))


def test_what_changes_slowly_is_seen():
    motion = Motion(0.5)
    motion.seen(noisy(), 0)
    brighter = (np.clip(SCENE.astype(int) + step, 0, 255).astype(np.uint8) for step in range(0, 60, 2))
    passed = [motion.seen(image, 2 + 0.05 * number) for number, image in enumerate(brighter)]
    assert passed[0], "the refresh"
    assert any(passed[1:19]), "before the next refresh is due"


def test_gate_says_still_unless_a_face_is_in_view():
    in_view = []
    passes = gate(lambda: bool(in_view), motion=0.005)
    results = [passes(frame(noisy(), 0.1 * number)) for number in range(30)]
    assert results.count("still") >= 15
    in_view.append(1)
    assert all(isinstance(passes(frame(noisy(), 3 + 0.1 * number)), Frame) for number in range(30))


def test_motion_is_off_by_default():
    passes = gate()
    assert all(isinstance(passes(frame(SCENE, 0.1 * number)), Frame) for number in range(50))


def test_size_of_the_picture_may_change():
    passes = gate(motion=0.01)
    for number, shape in enumerate([(480, 640), (48, 64), (1080, 1920), (480, 640)] * 5):
        assert passes(frame(np.zeros((*shape, 3), np.uint8), number / 10)) is not None
