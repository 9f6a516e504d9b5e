"""Faces in single pictures: small ones, such that fill the picture, and what neighbouring looks find twice."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.detector import Back, Detector
from edge.faces import LEFT_EYE, RIGHT_EYE, Face
from edge.still import find_faces
from tests.parts.samples import portrait


@pytest.fixture(scope="module")
def detector():
    return Detector()


def face_at(box, confidence=0.9):
    return Face(box, confidence, np.full((6, 2), box[:2], np.float32))


def spot(image):
    """Find the white spot if it is square and takes more than a quarter of the picture's longer side."""
    rows, columns = np.nonzero(image == 255)
    if not len(rows):
        return []
    width, height = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
    box = (float(columns.min()), float(rows.min()), float(width), float(height))
    return [face_at(box, 0.6 + width / 1000)] if width == height and width > max(image.shape) / 4 else []


def test_what_is_found_at_once_is_not_looked_for_tile_by_tile():
    looks = []

    def find(image):
        looks.append(image.shape)
        return [face_at((1, 2, 3, 4)), face_at((30, 2, 9, 9))]

    assert [face.box[2] for face in find_faces(np.zeros((40, 60), np.uint8), find)] == [9, 3]
    assert looks == [(100, 120), (40, 60), (9, 9), (20, 20)]  # with room, as it is, and around the two


@given(st.integers(20, 300), st.integers(20, 300), st.floats(0, 1), st.floats(0, 1))
def test_small_face_is_found_once_and_where_it_is(width, height, x, y):
    side = round(0.15 * max(width, height))
    assume(side < min(width, height))
    left, top = round(x * (width - side)), round(y * (height - side))
    picture = np.zeros((height, width), np.uint8)
    picture[top : top + side, left : left + side] = 255
    (face,) = find_faces(picture, spot)
    assert face.box == (left, top, side, side)
    np.testing.assert_array_equal(face.landmarks, np.full((6, 2), (left, top)))


def test_empty_picture_has_no_faces(detector):
    assert find_faces(np.zeros((1, 1, 3), np.uint8), detector) == []
    assert find_faces(np.full((700, 500, 3), 127, np.uint8), detector) == []


def test_small_face_in_a_large_picture(detector):
    picture = np.full((1500, 2000, 3), 120, np.uint8)
    picture[900:1140, 1500:1820] = cv2.resize(portrait(), (320, 240), interpolation=cv2.INTER_AREA)
    assert detector(picture) == []
    (face,) = find_faces(picture, detector)
    (alone,) = detector(portrait())
    expected = alone.landmarks[[LEFT_EYE, RIGHT_EYE]] / 2 + (1500, 900)
    np.testing.assert_allclose(face.landmarks[[LEFT_EYE, RIGHT_EYE]], expected, atol=6)


def test_small_face_beside_one_that_fills_the_picture():
    large, small = face_at((60, 60, 95, 95)), face_at((130, 5, 10, 10))

    def find(image):
        return [large] if image.shape[0] > 100 else [small]

    found = find_faces(np.zeros((100, 160), np.uint8), find)
    assert [face.box[2] for face in found] == [95, 10]


def test_face_that_fills_the_picture(detector):
    picture = portrait()
    (whole,) = detector(picture)
    x, y, width, height = (round(value) for value in whole.box)
    tight = picture[y : y + height, x : x + width]
    (face,) = find_faces(tight, detector)
    eyes = [LEFT_EYE, RIGHT_EYE]
    np.testing.assert_allclose(face.landmarks[eyes] + np.array([x, y]), whole.landmarks[eyes], atol=0.04 * width)
    (hasty,) = Back(0.3)(tight)  # what a first look alone says
    assert np.abs(hasty.landmarks[eyes] + np.array([x, y]) - whole.landmarks[eyes]).max() > 0.1 * width
