"""Cheap looks between whole ones: what they save, and that they change nothing of what is said."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge.analyser import Analyser
from edge.blazeface import Floats, Image
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.detector import Back, Detector
from edge.events import Box
from edge.faces import Face, crop_transform
from edge.metrics import Metrics
from edge.regions import RegionDetector
from edge.schedule import Schedule
from edge.tracking import Place, Transition
from tests.parts.analysis import KEEP, Analysed, overlap, side_by_side
from tests.parts.samples import LABELS
from tests.scenes import Portrait, clear_portraits, compose, read_clip
from trainer.data.alignment import paste

VIDEO = Path(os.environ.get("EMOTION_VIDEO", "../shared/video"))
SCENE_RATE = 15
VISITS, SURE, FACE = 12, 0.8, 0.8
KINDS = ("start", "change", "end")
#: A start or end may come this much later or earlier, seconds.
TOLERANCE = 0.5
LEAST_RATIO = 2.0


def test_cheap_looks_on_composed_scenes(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Four moving faces at a time that come and go, each in view for 5 s and of another expression after half of it.

    The model is sure of each: of what is on the brink between two emotions, a pixel more or less of the crop decides.
    """
    portraits, later = _changing(_sure(clear_portraits(128, 11)), VISITS)
    visits = compose(portraits, tmp_path / "scene.mp4", gap=2.5, seconds=5, rate=SCENE_RATE, later=later)
    every, shipped = side_by_side(read_clip(tmp_path / "scene.mp4"), SCENE_RATE, [Schedule(0.0), Schedule()])
    found, of = _recall(every, shipped)
    figure(
        f"detection_ratio: {every.detection / shipped.detection:.2f} detection alone, {every.all / shipped.all:.2f} "
        f"the whole analysis, against the whole of every frame; recall between {found} of {of}"
    )
    for kind in KINDS:
        assert _pairs(every.of(kind), shipped.of(kind)) == len(every.of(kind)) == len(shipped.of(kind)), kind
    assert len(every.of("start")) >= 0.95 * len(visits)
    assert len(every.of("change")) >= 0.75 * len(visits)
    assert found >= 0.97 * of
    assert every.detection / shipped.detection >= LEAST_RATIO


def test_cheap_looks_on_recorded_people(figure: Callable[[str], None]) -> None:
    """As they were recorded, once through."""
    found = of = 0
    pairs, told = dict.fromkeys(("start", "end"), 0), dict.fromkeys(("start", "end"), 0)
    seconds = {"every": 0.0, "shipped": 0.0}
    for path in sorted(VIDEO.glob("*.mp4")):
        rate = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)
        every, shipped = side_by_side(read_clip(path), rate, [Schedule(0.0), Schedule()])
        here = _recall(every, shipped)
        found, of = found + here[0], of + here[1]
        for kind in told:
            assert len(every.of(kind)) == len(shipped.of(kind)), (path.stem, kind)
            told[kind] += len(every.of(kind))
            pairs[kind] += _pairs(every.of(kind), shipped.of(kind))
        seconds["every"] += every.detection
        seconds["shipped"] += shipped.detection
    figure(
        f"detection on recorded people: ratio {seconds['every'] / seconds['shipped']:.2f}, recall between "
        f"{found} of {of}, {pairs['start']} of {told['start']} starts and {pairs['end']} of {told['end']} ends within "
        f"{TOLERANCE} s"
    )
    assert of > 300
    assert found >= 0.98 * of
    assert pairs == told


def test_crops_of_cheap_looks_lie_as_those_of_whole_ones(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """What the model is shown must not depend on which look found the face."""
    compose(clear_portraits(24, 12), tmp_path / "scene.mp4", gap=1.2, seconds=3, rate=5)
    look, whole, rule = RegionDetector(KEEP), Detector(KEEP), read_bundle(DEFAULT_MODEL).info.crop.rule()
    apart = []
    for frame in read_clip(tmp_path / "scene.mp4"):
        faces = whole(frame)
        found = look(frame, [Place(_place(face, frame)) for face in faces])
        for face in faces:
            for again in found:
                if overlap(_place(face, frame), _place(again, frame)) > 0.4:
                    apart.append(_apart(crop_transform(face.landmarks, rule), crop_transform(again.landmarks, rule)))
    near = sum(growth < 0.2 and turn < 10 for growth, turn in apart)
    figure(f"crops of cheap looks that lie as those of whole ones, within 20 % and 10 degrees: {near} of {len(apart)}")
    assert len(apart) > 150
    assert near >= 0.9 * len(apart)


def test_crops_hardly_depend_on_where_a_face_is(figure: Callable[[str], None]) -> None:
    """Its eyes are where they are, also if the picture is moved, turned and enlarged a little."""
    rule = read_bundle(DEFAULT_MODEL).info.crop.rule()
    finders: list[Callable[[Image], list[Face]]] = [Back(KEEP), Detector(KEEP)]
    turns: list[list[float]] = [[], []]
    for number, portrait in enumerate(clear_portraits(48, 13)):
        picture = np.asarray(paste(portrait.image, number)[0], np.uint8)
        side = len(picture)
        crops: list[list[Floats]] = [[], []]
        for angle, growth, across, down in np.random.default_rng(number).uniform(-1, 1, (4, 4)).tolist():
            moved = cv2.getRotationMatrix2D((side / 2, side / 2), 10 * angle, 1 + 0.2 * growth)
            moved[:, 2] += (15 * across, 15 * down)
            shown = np.asarray(cv2.warpAffine(picture, moved, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)
            for find, found in zip(finders, crops, strict=True):
                found += [
                    crop_transform(face.landmarks, rule) @ np.vstack([moved, (0, 0, 1)]) for face in find(shown)[:1]
                ]
        for found, all_turns in zip(crops, turns, strict=True):
            all_turns += [_apart(found[0], other)[1] for other in found[1:]]
    once, again = (float(np.median(each)) for each in turns)
    figure(
        f"crops of a face in pictures moved a little: {once:.1f} degrees apart after one look, {again:.1f} as shipped"
    )
    assert again < 0.75 * once


def _place(face: Face, frame: Image) -> Box:
    height, width = frame.shape[:2]
    x, y, w, h = face.box
    return Box(x / width, y / height, w / width, h / height)


def _apart(one: Floats, other: Floats) -> tuple[float, float]:
    """By what share one crop is larger than another, and by how many degrees it is turned; (2, 3) matrices."""
    (a, b), (c, d) = one[:, 0], other[:, 0]
    turn = math.degrees(math.atan2(d, c) - math.atan2(b, a))
    return abs(math.log(math.hypot(c, d) / math.hypot(a, b))), abs((turn + 180) % 360 - 180)


def _sure(portraits: list[Portrait]) -> list[Portrait]:
    """Return the portraits in which the model sees the same as people do, at least with probability `SURE`.

    FER+ has drawings too: what the detector is not sure of is left out.
    """
    analyser = Analyser(read_bundle(DEFAULT_MODEL), KEEP, Metrics("node", "0"))
    sure = []
    for portrait in portraits:
        large = cv2.cvtColor(cv2.resize(portrait.image, (300, 300), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
        seen = analyser(np.asarray(cv2.copyMakeBorder(large, 200, 200, 200, 200, cv2.BORDER_REPLICATE), np.uint8))
        certain = len(seen) == 1 and seen[0].confidence >= FACE
        if certain and seen[0].probabilities[LABELS.index(portrait.emotion)] >= SURE:
            sure.append(portrait)
    return sure


def _changing(portraits: list[Portrait], count: int) -> tuple[list[Portrait], list[Portrait]]:
    """Return some portraits, and as many others, each with another emotion than the one that it takes the place of."""
    first, rest = portraits[:count], portraits[count:]
    later = []
    for portrait in first:
        later.append(next(other for other in rest if other.emotion != portrait.emotion))
        rest.remove(later[-1])
    return first, later


def _recall(every: Analysed, shipped: Analysed) -> tuple[int, int]:
    """Of the reported faces that whole looks saw in frames that got a cheap one, count those that it saw as well."""
    found = of = 0
    for view, seen, whole in zip(every.views, shipped.seen, shipped.whole, strict=True):
        if not whole:
            of += len(view)
            found += sum(any(overlap(box, other) > 0.4 for other in seen) for _, box in view)
    return found, of


def _pairs(one: list[Transition], other: list[Transition]) -> int:
    """Count the transitions that have one of the other's to the same emotion, in its place and within the tolerance."""
    left = list(other)
    for transition in one:
        near = [
            candidate
            for candidate in left
            if candidate.emotion == transition.emotion
            and abs(candidate.time - transition.time) <= TOLERANCE
            and overlap(candidate.box, transition.box) > 0.1
        ]
        if near:
            left.remove(min(near, key=lambda candidate: abs(candidate.time - transition.time)))
    return len(other) - len(left)
