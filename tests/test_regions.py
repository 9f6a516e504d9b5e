"""The cheap look at places where faces are expected."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.detector import Back, Detector
from edge.events import Box
from edge.faces import LEFT_EYE, RIGHT_EYE
from edge.regions import CLOSE, MIRRORED, REFINED, RegionDetector, _draw, _face, _median, _Square, _tiles
from edge.tracking import Place
from tests.parts.samples import portrait


@pytest.fixture(scope="module")
def look():
    return RegionDetector(0.3)


@pytest.fixture(scope="module")
def crowd():
    """A picture with six faces of different size, and where the detector of whole pictures finds them."""
    picture = np.full((720, 1280, 3), 96, np.uint8)
    head = portrait()[60:380, 180:500]
    places = [(20, 20, 320), (400, 30, 240), (700, 10, 300), (60, 400, 280), (500, 380, 300), (900, 400, 260)]
    for left, top, side in places:
        picture[top : top + side, left : left + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    faces = Detector(0.5)(picture)
    assert len(faces) == len(places)
    return picture, faces


def expected(face, picture, shift=0.0, growth=1.0):
    """Where a face is expected that has moved by `shift` of its size and grown since."""
    height, width = picture.shape[:2]
    x, y, w, h = face.box
    middle, side = (x + w / 2 + shift * w, y + h / 2 - shift * h), h * growth
    box = Box((middle[0] - side / 2) / width, (middle[1] - side / 2) / height, side / width, side / height)
    return Place(box, abs(shift))


def middle(face):
    return face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("shift", "growth"), [(0, 1), (0.2, 1), (-0.2, 0.85), (0.1, 1.2)])
def test_expected_faces_are_found_where_they_are(look, crowd, count, shift, growth):
    picture, faces = crowd
    found = look(picture, [expected(face, picture, shift, growth) for face in faces[:count]])
    assert len(found) == count
    for face in faces[:count]:
        near = min(found, key=lambda other: math.dist(middle(face), middle(other)))
        assert math.dist(middle(face), middle(near)) < 0.12 * face.box[3]
        assert near.box[3] == pytest.approx(face.box[3], rel=0.2)
        assert np.abs(near.landmarks - face.landmarks)[[LEFT_EYE, RIGHT_EYE]].max() < 0.1 * face.box[3]
    assert [face.box[2] for face in found] == sorted((face.box[2] for face in found), reverse=True)


def test_a_face_in_two_places_is_found_once(look, crowd):
    picture, faces = crowd
    places = [expected(faces[0], picture), expected(faces[0], picture, 0.25), expected(faces[0], picture, -0.25)]
    assert len(look(picture, places)) == 1


def test_nobody_is_found_elsewhere(look, crowd):
    picture, faces = crowd
    assert look(picture, []) == []
    assert look(np.full_like(picture, 96), [expected(face, picture) for face in faces]) == []
    (found,) = look(picture, [expected(faces[-1], picture)])
    assert math.dist(middle(found), middle(faces[-1])) < 0.1 * faces[-1].box[3]


@pytest.mark.parametrize(
    "place",
    [
        Box(-0.5, -0.5, 0.2, 0.2),
        Box(0.95, 0.95, 0.2, 0.2),
        Box(2, 2, 0.1, 0.1),
        Box(0, 0, 1, 1),
        Box(-3, -3, 7, 7),
        Box(0.5, 0.5, 0, 0),
        Box(0.5, 0.5, 1e-9, 30),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(480, 640, 3), (480, 640), (16, 16, 3), (1, 400, 3)])
def test_places_of_any_kind_are_survived(look, place, shape):
    assert look(np.full(shape, 128, np.uint8), [Place(place, 0.2), Place(place)]) == []


def test_a_face_cut_by_the_edge_is_found(look):
    picture = np.ascontiguousarray(portrait()[:, 300:])
    (whole,) = Detector(0.3)(picture)
    (found,) = look(picture, [expected(whole, picture)])
    assert math.dist(middle(found), middle(whole)) < 0.2 * whole.box[3]


def test_grey_pictures_work(look):
    (whole,) = Detector(0.3)(portrait())
    assert look(cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY), [expected(whole, portrait())])


def test_the_picture_is_not_changed(look):
    picture = portrait().copy()
    look(picture, [Place(Box(0.3, 0.2, 0.4, 0.5))])
    np.testing.assert_array_equal(picture, portrait())


def test_what_one_view_of_four_shows_is_not_a_face(look, crowd, monkeypatch):
    """Views of one face at 128×128 in tiles of 64: a detection counts if half of them have it."""
    picture, faces = crowd
    row = np.array([32, 32, 40, 40, *[20, 28, 44, 28, 32, 38, 32, 48, 10, 30, 54, 30]], np.float32)
    tiles = [np.array([x, y, 0, 0, *[x, y] * 6], np.float32) for y in (0, 64) for x in (0, 64)]
    for shown in range(5):
        monkeypatch.setattr(look, "_find", FindsIn([row + tile for tile in tiles[:shown]]))
        assert len(look(picture, [expected(faces[0], picture)])) == (shown >= 2)


class FindsIn:
    """In place of the network: says the same of every picture."""

    side = 128

    def __init__(self, rows):
        self._rows = rows

    def __call__(self, _canvas):
        return [(0.9, row) for row in self._rows]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_refined_faces_are_the_same_with_other_landmarks(look, crowd, count):
    picture, _ = crowd
    found = Back(0.5)(picture)[:count]
    refined = look.refined(picture, found)
    assert [(face.box, face.confidence) for face in refined] == [(face.box, face.confidence) for face in found]
    for face, before in zip(refined, found, strict=True):
        assert 0 < np.abs(face.landmarks - before.landmarks).max() < 0.2 * face.box[3]
        assert face.landmarks.dtype == np.float32


def test_a_face_that_is_not_seen_again_keeps_its_landmarks(look, crowd):
    _, faces = crowd
    (same,) = look.refined(np.full((720, 1280, 3), 96, np.uint8), faces[:1])
    assert (same.landmarks == faces[0].landmarks).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@given(middle=st.tuples(st.floats(-50, 700), st.floats(-50, 500)), side=st.floats(20, 400), roll=st.floats(-180, 180))
def test_what_a_view_shows_is_brought_back_to_where_it_is(count, middle, side, roll):
    """Points of the picture, told from the edges of its pixels, as the network would tell them of each view."""
    squares = [_Square(*middle, side, CLOSE, roll)] * count
    points = np.array(middle) + side * np.random.default_rng(count).uniform(-0.3, 0.3, (7, 2))
    for view in _tiles(squares, 64):
        inside = (points - 0.5) @ view.transform[:, :2].T + view.transform[:, 2] + 0.5
        if view.mirrored:
            inside[:, 0] = 64 - inside[:, 0]
            inside[1:] = inside[1:][list(MIRRORED)]
        inside += (view.x, view.y)
        values = np.concatenate([inside[0], (20, 16), inside[1:].ravel()]).astype(np.float32)
        face = _face(0.9, values, view)
        np.testing.assert_allclose(face.landmarks, points[1:], atol=2e-3 * side)
        x, y, width, height = face.box
        np.testing.assert_allclose((x + width / 2, y + height / 2), points[0], atol=2e-3 * side)
        np.testing.assert_allclose((width, height), (20 / 64 * side, 16 / 64 * side), rtol=1e-5)


def test_views_are_drawn_where_they_are_brought_back_from():
    """A dot in the picture lies in every view where the view's transform says."""
    picture = np.zeros((480, 640), np.uint8)
    cv2.circle(picture, (301, 203), 6, 255, -1)
    square = _Square(320, 240, 200, CLOSE, 12)
    views = _tiles([square], 64)
    canvas = np.zeros((128, 128, 3), np.uint8)
    _draw(canvas, picture, views)
    for view in views:
        tile = canvas[view.y : view.y + 64, view.x : view.x + 64, 0].astype(float)
        if view.mirrored:
            tile = tile[:, ::-1]
        y, x = (np.average(at, weights=tile) for at in np.indices(tile.shape))
        np.testing.assert_allclose((x, y), view.transform[:, :2] @ (301, 203) + view.transform[:, 2], atol=0.15)


def test_a_face_in_front_of_a_larger_one_is_not_blended_with_it(look, crowd, monkeypatch):
    picture, faces = crowd
    large = np.array([32, 32, 40, 40, *[32, 32] * 6], np.float32)
    small = np.array([36, 36, 24, 24, *[36, 36] * 6], np.float32)
    monkeypatch.setattr(look, "_find", FindsIn([small, large]))
    (found,) = look(picture, [expected(face, picture) for face in faces[:3]])
    assert found.box[2] == pytest.approx(faces[0].box[2] * CLOSE * 24 / 64, rel=0.01)


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_median_is_that_of_numpy(rows):
    values = np.array(rows, np.float32)
    np.testing.assert_allclose(_median(values), np.median(values, axis=0), rtol=1e-5, atol=1e-5)


def test_who_was_seen_just_now_needs_no_further_look(look, crowd):
    """Of five faces three are recent: their landmarks are taken, and the network runs once for the other two."""
    picture, _ = crowd
    found = Back(0.5)(picture)[:5]
    recent = [replace(face, landmarks=face.landmarks + 3, confidence=0.5) for face in (found[4], found[0], found[2])]
    runs = look.runs
    refined = look.refined(picture, found, recent)
    assert look.runs == runs + 1
    assert [(face.box, face.confidence) for face in refined] == [(face.box, face.confidence) for face in found]
    for number in (0, 2, 4):
        assert (refined[number].landmarks == found[number].landmarks + 3).all()
    for number, again in zip((1, 3), look.refined(picture, [found[1], found[3]]), strict=True):
        assert (refined[number].landmarks == again.landmarks).all()


def test_who_is_not_where_it_was_expected_is_looked_at_again(look, crowd):
    picture, _ = crowd
    (face,) = Back(0.5)(picture)[:1]
    x, y, width, height = face.box
    (alone,) = look.refined(picture, [face])
    for shift, there in ((0.14, True), (0.22, False), (0.6, False)):
        expected = replace(face, box=(x + shift * width, y, width, height), landmarks=face.landmarks + 3)
        (refined,) = look.refined(picture, [face], [expected])
        assert (refined.landmarks == (expected if there else alone).landmarks).all()
        assert refined.measured != there


def test_the_network_runs_once_for_up_to_four_places(look, crowd):
    picture, faces = crowd
    for count, times in ((0, 0), (1, 1), (4, 1), (5, 2), (6, 2)):
        runs = look.runs
        look(picture, [expected(face, picture) for face in faces[:count]])
        assert look.runs == runs + times


def test_of_a_crowd_the_largest_are_looked_at_again(look, crowd):
    picture, _ = crowd
    before = Back(0.5)(picture)[:1] * (REFINED + 3)
    after = look.refined(picture, before)
    assert len(after) == len(before)
    assert [face is other for face, other in zip(after, before, strict=True)] == [False] * REFINED + [True] * 3
