"""Finding faces and cutting them out."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.blazeface import BlazeFace, fit, merge
from edge.detector import Detector
from edge.faces import LEFT_EYE, MOUTH, RIGHT_EYE, CropRule, crop, crop_transform, look
from tests.parts.samples import portrait

#: Eyes 100 px apart, mouth 112 px below them: a face from the front, at the origin.
FRONTAL = np.array([[-50, 0], [50, 0], [0, 55], [0, 112], [-90, 20], [90, 20]], np.float32)
RULES = st.builds(CropRule, st.integers(24, 96), st.floats(2, 4), st.floats(0.2, 0.6))


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.fixture(scope="module")
def truth(detector):
    """The one face of the portrait, as found in the whole frame."""
    (face,) = detector(portrait())
    return face


def placed(size, side, left, top):
    """Put the portrait's middle, `side` pixels high, on a grey canvas of `size` (width, height)."""
    canvas = np.full((size[1], size[0], 3), 96, np.uint8)
    picture = portrait()[:, 80:560]
    method = cv2.INTER_AREA if side < 480 else cv2.INTER_CUBIC
    canvas[top : top + side, left : left + side] = cv2.resize(picture, (side, side), interpolation=method)
    return canvas


def centre(face):
    x, y, width, height = face.box
    return x + width / 2, y + height / 2


@pytest.mark.parametrize(
    ("size", "side", "left", "top"),
    [
        ((640, 480), 480, 0, 0),
        ((640, 480), 480, 160, 0),
        ((640, 480), 240, 20, 230),
        ((1280, 720), 400, 800, 300),
        ((1280, 720), 720, 250, 0),
        ((480, 1280), 400, 40, 800),
        ((2000, 400), 400, 1500, 0),
        ((300, 1100), 300, 0, 100),
        ((480, 480), 480, 0, 0),
        ((241, 243), 240, 1, 2),
    ],
)
def test_face_is_found_where_it_is(detector, truth, size, side, left, top):
    faces = detector(placed(size, side, left, top))
    assert len(faces) == 1
    (face,) = faces
    scale = side / 480
    unit = truth.box[3] * scale
    expected = (centre(truth)[0] - 80) * scale + left, centre(truth)[1] * scale + top
    assert math.dist(centre(face), expected) < 0.12 * unit
    assert face.box[3] == pytest.approx(unit, rel=0.2)
    eyes = (truth.landmarks[[LEFT_EYE, RIGHT_EYE]] - (80, 0)) * scale + (left, top)
    assert np.abs(face.landmarks[[LEFT_EYE, RIGHT_EYE]] - eyes).max() < 0.1 * unit
    assert 0.5 < face.confidence <= 1


def test_landmarks_lie_in_their_order(truth):
    left, right = truth.landmarks[LEFT_EYE], truth.landmarks[RIGHT_EYE]
    assert truth.landmarks.shape == (6, 2)
    assert truth.landmarks.dtype == np.float32
    assert left[0] < right[0]
    assert truth.landmarks[MOUTH][1] > max(left[1], right[1])
    x, y, width, height = truth.box
    assert ((truth.landmarks[:4] > (x, y)) & (truth.landmarks[:4] < (x + width, y + height))).all()


def test_grey_pictures_work(detector, truth):
    (face,) = detector(cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY))
    assert math.dist(centre(face), centre(truth)) < 0.1 * truth.box[3]


def test_several_faces_come_largest_first(detector):
    canvas = placed((1200, 600), 600, 0, 0)
    canvas[:300, 700:1000] = cv2.resize(portrait()[:, 80:560], (300, 300), interpolation=cv2.INTER_AREA)
    faces = detector(canvas)
    assert len(faces) == 2
    assert faces[0].box[2] > 1.5 * faces[1].box[2]
    assert centre(faces[0])[0] < 600 < centre(faces[1])[0]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (1, 4000, 3), (4000, 1, 3), (2, 3, 3), (720, 1280, 3), (7, 900)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_empty_pictures_of_any_shape_show_nobody(detector, shape, level):
    assert detector(np.full(shape, level, np.uint8)) == []


def test_threshold_holds_back_weak_faces(truth):
    assert Detector(threshold=0.05)(portrait())
    assert all(face.confidence >= 0.05 for face in Detector(threshold=0.05)(portrait()))
    assert Detector(threshold=min(0.999, truth.confidence + 0.01))(portrait()) == []


def test_picture_is_not_changed(detector):
    picture = portrait().copy()
    for face in detector(picture):
        crop(picture, face.landmarks, CropRule())
    np.testing.assert_array_equal(picture, portrait())


def row(x, y, size):
    return [x, y, size, size, *([0.0] * 12)]


def test_overlapping_detections_become_one_weighted_by_confidence():
    values = np.array([row(100, 100, 50), row(104, 100, 50), row(300, 100, 50), row(102, 101, 52)], np.float32)
    merged = merge(np.array([0.9, 0.6, 0.8, 0.3], np.float32), values, 0.3)
    assert [round(confidence, 3) for confidence, _ in merged] == [0.9, 0.8]
    assert merged[0][1][0] == pytest.approx((0.9 * 100 + 0.6 * 104 + 0.3 * 102) / 1.8)
    assert merged[1][1][:3].tolist() == [300, 100, 50]


def test_barely_overlapping_detections_stay_apart():
    values = np.array([row(100, 100, 50), row(140, 100, 50)], np.float32)
    assert len(merge(np.array([0.9, 0.8], np.float32), values, 0.3)) == 2
    assert len(merge(np.array([0.9, 0.8], np.float32), values, 0.1)) == 1


def test_nothing_detected_merges_to_nothing():
    assert merge(np.zeros(0, np.float32), np.zeros((0, 16), np.float32), 0.3) == []


@pytest.mark.parametrize(("threshold", "found"), [(0.0001, 896), (0.3, 627), (0.5, 448), (0.9999, 0)])
def test_detections_count_from_the_least_confidence_on(threshold, found, monkeypatch):
    """The network's answers are replaced: scores of all confidences, at places that have nothing in common."""
    detector = BlazeFace.short(threshold)
    confidences = (np.arange(896) + 0.5) / 896
    scores = np.log(confidences / (1 - confidences)).astype(np.float32)[None, :, None]
    regressors = np.zeros((1, 896, 16), np.float32)
    regressors[0, :, 0] = 1000 * np.arange(896)
    regressors[0, :, 2:4] = 10
    monkeypatch.setattr(detector, "_network", lambda _canvas: (regressors, scores))
    faces = detector(np.zeros((128, 128, 3), np.uint8))
    assert [confidence for confidence, _ in faces] == pytest.approx(confidences[::-1][:found].tolist(), abs=1e-5)


def similarity(points, scale, angle, shift):
    rotation = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (points @ rotation.T + shift).astype(np.float32)


SIMILARITIES = st.tuples(
    st.floats(0.1, 20), st.floats(-math.pi, math.pi), st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))
)


@given(RULES, SIMILARITIES)
def test_eyes_come_to_lie_level_on_their_line(rule, how):
    landmarks = similarity(FRONTAL, *how)
    transform = crop_transform(landmarks, rule)
    assert transform.shape == (2, 3)
    eyes = np.hstack([landmarks[[LEFT_EYE, RIGHT_EYE]], [[1], [1]]]) @ transform.T
    half = rule.size / rule.margin / 2
    line = rule.eye_line * rule.size - 0.5
    expected = [[rule.size / 2 - 0.5 - half, line], [rule.size / 2 - 0.5 + half, line]]
    np.testing.assert_allclose(eyes, expected, atol=0.02 * rule.size)


@given(SIMILARITIES)
def test_transform_follows_the_face(how):
    """What the crop shows of a face does not depend on where, how large and how tilted it is."""
    moved = similarity(FRONTAL, *how)
    here = np.hstack([FRONTAL, np.ones((6, 1))]) @ crop_transform(FRONTAL, CropRule()).T
    there = np.hstack([moved, np.ones((6, 1))]) @ crop_transform(moved, CropRule()).T
    np.testing.assert_allclose(there, here, atol=0.5)


def test_face_turned_aside_keeps_its_size():
    """Eyes closer together by half, mouth where it was: the crop grows by no more than the mouth allows."""
    aside = FRONTAL.copy()
    aside[[LEFT_EYE, RIGHT_EYE], 0] *= 0.5
    frontal, turned = (np.hypot(*crop_transform(points, CropRule())[0, :2]) for points in (FRONTAL, aside))
    assert turned == pytest.approx(frontal * 100 / (0.85 * 112), rel=1e-3)


def test_landmarks_in_one_point_do_not_crash():
    point = np.full((6, 2), 30, np.float32)
    assert crop(np.zeros((60, 60), np.uint8), point, CropRule()).shape == (48, 48)


def smooth_picture(seed=0, size=(400, 400)):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 6).astype(float)
    return np.clip((blurred - blurred.mean()) * 8 + 128, 0, 255).astype(np.uint8)


@given(st.floats(0.9, 4), st.floats(-0.6, 0.6), st.tuples(st.floats(150, 250), st.floats(150, 250)))
@settings(deadline=None, max_examples=50)
def test_crop_without_shrinking_is_the_plain_warp(enlarge, angle, middle):
    rule = CropRule()
    landmarks = similarity(FRONTAL, rule.size / rule.margin / 100 / enlarge, angle, middle)
    picture = smooth_picture()
    transform = crop_transform(landmarks, rule)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    plain = cv2.warpAffine(grey, transform, (48, 48), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # OpenCV rounds positions to 1/32 px, differently for another origin.
    assert np.abs(crop(picture, landmarks, rule).astype(int) - plain).max() <= 6


@given(st.floats(0.5, 3), st.floats(-0.5, 0.5))
@settings(deadline=None, max_examples=30)
def test_crop_of_a_face_is_the_same_however_large_it_is(scale, angle):
    """The same face drawn larger or tilted gives nearly the same crop."""
    picture = smooth_picture(1)
    at = similarity(FRONTAL, 1, 0, (200, 180))
    whole = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shift = np.array([700, 700]) - whole @ (200, 180)
    drawn = cv2.warpAffine(
        picture,
        np.hstack([whole, shift[:, None]]),
        (1400, 1400),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    moved = (at @ whole.T + shift).astype(np.float32)
    one, other = crop(picture, at, CropRule()), crop(drawn, moved, CropRule())
    assert np.abs(one.astype(int) - other).mean() < 4


@pytest.mark.parametrize("shrink", [3, 5.5, 12, 20])
def test_shrinking_does_not_alias(shrink):
    """Stripes finer than the crop's pixels come out as their mean."""
    rule = CropRule()
    picture = np.zeros((1200, 1200), np.uint8)
    picture[:, ::2] = 255
    landmarks = similarity(FRONTAL, rule.size / rule.margin / 100 * shrink, 0.0, (600, 500))
    cut = crop(picture, landmarks, rule)[8:40, 8:40]
    assert abs(cut.mean() - 127.5) < 6
    assert cut.std() < 20


@pytest.mark.parametrize("middle", [(-500, -500), (0, 0), (399, 10), (1200, 200), (200, 5000)])
@pytest.mark.parametrize("scale", [0.05, 1, 30])
def test_crop_beyond_the_picture_repeats_its_edge(middle, scale):
    picture = np.full((400, 400, 3), (10, 20, 30), np.uint8)
    cut = crop(picture, similarity(FRONTAL, scale, 0.3, middle), CropRule())
    assert cut.shape == (48, 48)
    assert cut.dtype == np.uint8
    assert set(np.unique(cut)) == {int(cv2.cvtColor(picture[:1, :1], cv2.COLOR_BGR2GRAY)[0, 0])}


def test_crop_of_grey_and_colour_agree(truth):
    colour = crop(portrait(), truth.landmarks, CropRule())
    grey = crop(cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY), truth.landmarks, CropRule())
    assert np.abs(colour.astype(int) - grey).max() <= 2


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_crop_of_the_smallest_picture(colour):
    assert (crop(np.full((1, 1, 3), 77, np.uint8), FRONTAL, CropRule(), colour) == 77).all()


def test_colours_of_a_crop_are_red_green_and_blue_of_the_picture(truth):
    rule = CropRule()
    cut = crop(portrait(), truth.landmarks, rule, "rgb")
    assert (cut.shape, cut.dtype) == ((48, 48, 3), np.uint8)
    for channel, plane in enumerate((2, 1, 0)):  # OpenCV's pictures are blue, green, red
        np.testing.assert_array_equal(
            cut[..., channel], crop(np.ascontiguousarray(portrait()[..., plane]), truth.landmarks, rule)
        )
    assert np.abs(cut[..., 0].astype(int) - cut[..., 2]).max() > 20


def test_crop_of_a_grey_picture_has_three_colours_alike(truth):
    grey = cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY)
    cut = crop(grey, truth.landmarks, CropRule(), "rgb")
    plain = crop(grey, truth.landmarks, CropRule())
    np.testing.assert_array_equal(cut, np.repeat(plain[..., None], 3, axis=-1))


def test_a_face_looks_the_same_in_grey_and_in_colour(truth):
    grey, colour = (look(crop(portrait(), truth.landmarks, CropRule(), how)) for how in ("grey", "rgb"))
    assert grey.shape == colour.shape == (256,)
    assert grey @ colour > 0.999


@pytest.mark.parametrize("size", [(1920, 1080), (1279, 719), (596, 336), (600, 513), (4096, 256)])
def test_large_pictures_are_brought_to_size_without_a_shift(size):
    """As averaging all of it would, but for a pixel or two of the large one, and without aliasing."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([255 * x / width, 255 * y / height, 0 * x], axis=-1).astype(np.uint8)
    scale = 256 / width
    target = (256, max(1, round(height * scale)))
    assert np.abs(fit(ramp, target).astype(int) - exactly(ramp, target)).max() <= 3
    stripes = np.where((x % 2 == 0)[..., None], np.uint8(0), np.uint8(255)).repeat(3, axis=2)
    assert fit(stripes, target).std() <= exactly(stripes, target).std() + 12


@pytest.mark.parametrize("size", [(500, 300), (300, 300), (256, 256), (90, 60)])
def test_pictures_up_to_twice_the_size_are_averaged_as_they_were_for_training(size):
    picture = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    target = (256, max(1, round(256 * size[1] / size[0])))
    assert np.array_equal(fit(picture, target), exactly(picture, target))


def exactly(picture, target):
    shrinks = target[0] < picture.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(picture, target, interpolation=how)[..., ::-1].astype(int)
