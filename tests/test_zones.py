"""Which faces count."""

import pytest

from edge.events import Box
from edge.zones import FaceFilter

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
CORNER = ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3))


def box(x, y, size=0.1):
    """A box around a point."""
    return Box(x - size / 2, y - size / 2, size, size)


def test_without_anything_all_count():
    assert FaceFilter()(Box(-0.1, -0.1, 0.01, 0.01))


@pytest.mark.parametrize(("x", "counts"), [(0.1, True), (0.49, True), (0.51, False), (0.9, False), (-0.02, False)])
def test_only_centres_in_a_zone_count(x, counts):
    assert FaceFilter(zones=[LEFT])(box(x, 0.5)) is counts
    assert FaceFilter(zones=[CORNER, LEFT])(box(x, 0.5)) is counts


def test_polygons_need_not_be_boxes():
    inside = FaceFilter(zones=[CORNER])
    assert inside(box(0.1, 0.1))
    assert not inside(box(0.2, 0.2))


def test_masks_win_over_zones():
    counts = FaceFilter(zones=[LEFT], masks=[CORNER])
    assert not counts(box(0.1, 0.1))
    assert counts(box(0.2, 0.2))
    assert not FaceFilter(masks=[LEFT])(box(0.2, 0.2))
    assert FaceFilter(masks=[LEFT])(box(0.7, 0.2))


def test_small_faces_do_not_count():
    counts = FaceFilter(min_face=0.1)
    assert counts(Box(0, 0, 0.01, 0.1))
    assert not counts(Box(0, 0, 0.2, 0.099))
