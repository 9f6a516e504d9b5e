"""The picture of the preview, and the time that goes into such pictures."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import Box
from edge.preview.picture import MASK, SIDE, Allowance, Marked, draw_picture

FACE = Marked(Box(0.25, 0.25, 0.5, 0.5), "happiness", 0.9)
GROUND = (200, 120, 40)


def plain(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GROUND, np.uint8)


def decoded(picture: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(1920, 1080, (640, 360)), (720, 1280, (360, 640)), (320, 240, (320, 240)), (4000, 2, (640, 1)), (1, 1, (1, 1))],
)
def test_picture_is_small_and_keeps_its_shape(width: int, height: int, size: tuple[int, int]) -> None:
    image = decoded(draw_picture(plain(width, height), [FACE]))
    assert image.shape[1::-1] == size
    assert max(size) <= SIDE


def test_frame_itself_stays_as_it_is() -> None:
    frame = plain(320, 240)
    frame.setflags(write=False)
    draw_picture(frame, [FACE], masks=[[(0, 0), (1, 0), (1, 1)]], zones=[[(0, 0), (1, 0), (1, 1)]])
    assert (frame == GROUND).all()


def test_faces_are_marked_where_they_are() -> None:
    without, with_face = (decoded(draw_picture(plain(640, 480), faces)).astype(int) for faces in ([], [FACE]))
    changed = np.abs(with_face - without).max(axis=2) > 40
    rows, columns = np.nonzero(changed[130:])  # the emotion's name stands above the box
    assert columns.min() == pytest.approx(160, abs=3)
    assert columns.max() == pytest.approx(480, abs=3)
    assert rows.max() + 130 == pytest.approx(360, abs=3)


def test_nothing_is_to_be_seen_behind_a_mask() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    image = decoded(draw_picture(noise, [], masks=[[(0, 0), (0.5, 0), (0.5, 1), (0, 1)]]))
    assert np.abs(image[8:-8, 8:300].astype(int) - MASK).max() < 12
    assert image[:, 340:].std() > 20


def test_zones_are_outlined() -> None:
    image = decoded(draw_picture(plain(640, 480), [], zones=[[(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]]))
    assert np.abs(image[240, 160].astype(int) - GROUND).max() > 40
    assert np.abs(image[240, 320].astype(int) - GROUND).max() < 12


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 0.5)), min_size=1), st.floats(0.001, 1))
def test_work_stays_within_its_share(asked: list[tuple[float, float]], share: float) -> None:
    """Whenever it is asked for and whatever it takes, all but the last piece are paid for by the time that passed."""
    allowance = Allowance(lambda: share, interval=0.2)
    now, begun = 0.0, []
    for pause, cost in asked:
        now += pause
        if allowance.may(now):
            allowance.spent(now, cost)
            begun.append((now, cost))
        now += cost
    assert begun, "the first piece may always begin"
    assert sum(cost for _, cost in begun[:-1]) <= share * (begun[-1][0] - begun[0][0]) + 1e-9
    assert all(later - earlier >= 0.2 for (earlier, _), (later, _) in itertools.pairwise(begun))
