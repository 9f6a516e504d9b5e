"""The composed clips hold what their truth says."""

from __future__ import annotations

import tarfile
from itertools import pairwise

import cv2
import numpy as np
import pytest

from edge.detector import Detector
from tests.scenes import Portrait, back_and_forth, clear_portraits, compose, read_clip
from trainer.data.datasets import LABELS, data_folder

RATE = 15


@pytest.fixture(scope="module")
def portraits():
    return clear_portraits(12, seed=1)


@pytest.fixture(scope="module")
def scene(portraits, tmp_path_factory):
    """A clip of twelve faces: its path and its truth."""
    path = tmp_path_factory.mktemp("scene") / "scene.mp4"
    return path, compose(portraits, path)


def checkerboards(count):
    board = np.kron(np.indices((6, 6)).sum(axis=0) % 2, np.ones((8, 8))) * 255
    return [Portrait(f"{number}.png", "neutral", board.astype(np.uint8)) for number in range(count)]


def test_portraits_are_drawn_by_seed_and_differ(portraits):
    again = clear_portraits(12, seed=1)
    assert [portrait.name for portrait in again] == [portrait.name for portrait in portraits]
    assert {portrait.name for portrait in clear_portraits(12, seed=2)} != {portrait.name for portrait in portraits}
    many = clear_portraits(400, seed=3)
    pixels = {min(portrait.image.tobytes(), portrait.image[:, ::-1].tobytes()) for portrait in many}
    assert len(pixels) == 400
    assert {portrait.emotion for portrait in many} >= {"neutral", "happiness", "surprise", "sadness", "anger"}


def test_portraits_have_the_emotion_that_most_people_saw(portraits):
    wanted = {portrait.name: portrait.emotion for portrait in portraits}
    table = _validation_votes()
    for name, emotion in wanted.items():
        votes = np.array([vote if vote > 1 else 0 for vote in table[name]])
        assert votes[LABELS.index(emotion)] > votes.sum() / 2, name


def test_every_face_has_its_time_and_stays_in_its_quarter(scene, portraits):
    path, visits = scene
    assert [(visit.id, visit.name, visit.emotion) for visit in visits] == [
        (number, portrait.name, portrait.emotion) for number, portrait in enumerate(portraits)
    ]
    for visit in visits:
        assert visit.vanish - visit.appear == pytest.approx(2)
        assert visit.box(visit.vanish) is None
        assert visit.box(visit.appear - 1 / RATE) is None
        column, row = visit.region % 2, visit.region // 2
        boxes = [visit.box(visit.appear + number / RATE) for number in range(2 * RATE)]
        for left, top, width, height in boxes:
            assert column / 2 <= left <= left + width <= (column + 1) / 2
            assert row / 2 <= top <= top + height <= (row + 1) / 2
            assert (width * 1280, height * 720) == pytest.approx((300, 300))
        assert max(abs(later[0] - earlier[0]) for earlier, later in pairwise(boxes)) > 0.001
    for region in range(4):
        turns = [visit for visit in visits if visit.region == region]
        assert [later.appear - earlier.vanish for earlier, later in pairwise(turns)] == pytest.approx(
            [2.5] * (len(turns) - 1), abs=1 / RATE
        )
    assert len(read_clip(path)) == round((max(visit.vanish for visit in visits) + 2.5) * RATE)


def test_four_faces_are_in_view_at_a_time(scene):
    _, visits = scene
    most = max(sum(visit.box(number / RATE) is not None for visit in visits) for number in range(200))
    assert most == 4


def test_detector_finds_each_face_where_it_is_and_nowhere_else(scene):
    path, visits = scene
    detector = Detector()
    asked = found = strangers = 0
    seen = set()
    for number, picture in list(enumerate(read_clip(path)))[::6]:
        centres = [(x + width / 2, y + height / 2) for x, y, width, height in (face.box for face in detector(picture))]
        for visit in visits:
            box = visit.box(number / RATE)
            if box is None:
                continue
            inside = [centre for centre in centres if _within(centre, box)]
            asked, found = asked + 1, found + bool(inside)
            centres = [centre for centre in centres if centre not in inside]
            seen |= {visit.id} if inside else set()
        strangers += len(centres)
    print(f"{found} of {asked} found, {len(seen)} of {len(visits)} faces at least once, {strangers} strangers")
    assert asked >= 55
    assert found / asked >= 0.85
    assert len(seen) == len(visits)
    assert strangers <= asked / 50


def test_heads_tilt_to_and_fro_where_asked(portraits, tmp_path):
    tilts = []
    for number, tilt in enumerate((0, 30)):
        (visit,) = compose(portraits[:1], tmp_path / f"{number}.mp4", size=(640, 480), side=200, gap=0.2, tilt=tilt)
        pictures = read_clip(tmp_path / f"{number}.mp4")[round(visit.appear * RATE) : round(visit.vanish * RATE)]
        eyes = [face.landmarks[:2] for picture in pictures[::2] for face in Detector()(picture)]
        tilts.append([np.degrees(np.arctan2(*(right - left)[::-1])) for left, right in eyes])
    assert np.ptp(tilts[0]) < 12
    assert np.ptp(tilts[1]) > 40


def test_a_frame_shows_the_face_at_its_box_and_the_wall_elsewhere(tmp_path):
    with_faces = tmp_path / "with.mp4"
    visits = compose(checkerboards(4), with_faces, size=(1920, 1080), stagger=0)
    number = round(visits[0].appear * RATE) + 10
    picture = read_clip(with_faces)[number]
    assert picture.shape == (1080, 1920, 3)
    for visit in visits:
        left, top, width, height = (
            round(value * scale) for value, scale in zip(visit.box(number / RATE), (1920, 1080) * 2, strict=True)
        )
        patch = picture[top : top + height, left : left + width]
        board = cv2.resize(checkerboards(1)[0].image, (300, 300), interpolation=cv2.INTER_CUBIC)
        inner = slice(25, -25)
        assert np.abs(patch[inner, inner].mean(axis=2) - board[inner, inner]).mean() < 12
        assert np.abs(patch[:2].astype(float).mean(axis=2) - board[:2]).mean() > 40


def test_the_wall_is_not_plain_and_moves(scene):
    path, visits = scene
    empty = [
        picture for number, picture in enumerate(read_clip(path)) if all(v.box(number / RATE) is None for v in visits)
    ]
    assert empty[0].std() > 20
    assert np.abs(empty[0].astype(int) - empty[-1]).mean() > 2


def test_the_same_seed_gives_the_same_file(tmp_path):
    first, second, other = (tmp_path / f"{name}.mp4" for name in ("first", "second", "other"))
    for path, seed in ((first, 5), (second, 5), (other, 6)):
        compose(checkerboards(2), path, seconds=0.4, gap=0.2, seed=seed)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_back_and_forth_turns_at_both_ends(tmp_path):
    compose(checkerboards(1), tmp_path / "short.mp4", seconds=0.4, gap=0.2, rate=RATE)
    short = read_clip(tmp_path / "short.mp4")
    last = len(short) - 1
    count = back_and_forth(tmp_path / "short.mp4", 3.0, tmp_path / "long.mp4")
    long = read_clip(tmp_path / "long.mp4")
    assert len(long) == count == 3 * RATE
    for number, picture in enumerate(long):
        expected = last - abs(last - number % (2 * last))
        assert np.abs(picture.astype(int) - short[expected]).mean() < 3, (number, expected)


def _within(centre, box):
    left, top, width, height = box
    return left < centre[0] / 1280 < left + width and top < centre[1] / 720 < top + height


def _validation_votes():
    with tarfile.open(data_folder() / "ferplus.tar") as tar:
        member = next(member for member in tar if member.name.endswith("FER2013Valid/label.csv"))
        rows = tar.extractfile(member).read().decode().splitlines()
    return {row.split(",")[0]: [float(vote) for vote in row.rsplit(",", 10)[1:]] for row in rows}
