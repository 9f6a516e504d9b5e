"""Whether anything has changed in a picture beside the people in it."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import Box
from edge.surroundings import Surroundings

RNG = np.random.default_rng(5)
ROOM = cv2.GaussianBlur(RNG.integers(40, 160, (360, 640, 3), dtype=np.uint8), (0, 0), 8)
FACE = Box(0.4, 0.2, 0.1, 0.18)


def remembered(faces=()):
    surroundings = Surroundings()
    surroundings.remember(ROOM, faces)
    return surroundings


def with_spot(x, y, side=40, brighter=40):
    picture = ROOM.copy()
    part = picture[y : y + side, x : x + side]
    part[:] = np.clip(part.astype(int) + brighter, 0, 255)
    return picture


def test_before_anything_is_remembered_everything_is_new():
    assert Surroundings().changed(ROOM, [])


@pytest.mark.parametrize("brighter", [40, -40])
def test_whatever_comes_is_seen(brighter):
    assert remembered().changed(with_spot(500, 250, brighter=brighter), [])


@given(st.integers(0, 640 - 32), st.integers(0, 360 - 32))
def test_a_thing_of_a_twentieth_of_the_picture_is_seen_wherever_it_is(x, y):
    assert remembered().changed(with_spot(x, y, side=32), [])


def test_noise_and_compression_are_no_change():
    noisy = np.clip(ROOM.astype(int) + RNG.normal(0, 8, ROOM.shape), 0, 255).astype(np.uint8)
    encoded = cv2.imdecode(cv2.imencode(".jpg", ROOM, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
    for picture in (ROOM, noisy, encoded):
        assert not remembered().changed(picture, [])


def test_who_is_known_may_move_with_all_of_the_body():
    chest = with_spot(round(0.42 * 640), round(0.6 * 360))
    assert remembered().changed(chest, [])
    assert not remembered([FACE]).changed(chest, [])
    assert not remembered().changed(chest, [FACE]), "nor who was found since"
    assert remembered([FACE]).changed(with_spot(540, 250), [FACE]), "others may not"


@given(st.tuples(*[st.floats(-3, 3)] * 2, *[st.floats(0, 3)] * 2))
def test_faces_of_any_size_and_place_are_survived(box):
    assert not remembered([Box(*box)]).changed(ROOM, [Box(*box)])


@pytest.mark.parametrize("shape", [(16, 16, 3), (17, 900, 3), (1080, 1920, 3), (90, 160)])
def test_pictures_of_any_shape_are_compared(shape):
    surroundings = Surroundings()
    dark, bright = np.full(shape, 20, np.uint8), np.full(shape, 60, np.uint8)
    surroundings.remember(dark, [])
    assert not surroundings.changed(dark, [])
    assert surroundings.changed(bright, [])
