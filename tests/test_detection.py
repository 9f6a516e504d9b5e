"""Cheap looks between whole ones: what they save, and that they change nothing of what is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edge.schedule import Schedule
from edge.tracking import Transition
from tests.parts.analysis import Analysed, overlap, side_by_side
from tests.scenes import clear_portraits, compose, read_clip

VIDEO = Path(os.environ.get("EMOTION_VIDEO", "../shared/video"))
SCENE_RATE = 15
#: A start or end may come this much later or earlier, seconds.
TOLERANCE = 0.5
LEAST_RATIO = 2.0


@pytest.mark.timeout(600)
def test_cheap_looks_on_composed_scenes(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Four moving faces at a time that come and go, each in view for 3 s."""
    visits = compose(clear_portraits(12, 11), tmp_path / "scene.mp4", side=300, gap=2.5, seconds=3, rate=SCENE_RATE)
    every, shipped = side_by_side(read_clip(tmp_path / "scene.mp4"), SCENE_RATE, [Schedule(0.0), Schedule()])
    found, of = _recall(every, shipped)
    figure(
        f"detection_ratio: {every.detection / shipped.detection:.2f} detection alone, {every.all / shipped.all:.2f} "
        f"the whole analysis, against the whole of every frame; recall between {found} of {of}"
    )
    for kind in ("start", "end"):
        assert _pairs(every.of(kind), shipped.of(kind)) == len(every.of(kind)) == len(shipped.of(kind)), kind
    assert len(every.of("start")) >= 0.95 * len(visits)
    assert len(every.of("change")) == len(shipped.of("change"))
    assert found >= 0.97 * of
    assert every.detection / shipped.detection >= LEAST_RATIO


@pytest.mark.timeout(600)
def test_cheap_looks_on_recorded_people(figure: Callable[[str], None]) -> None:
    """As they were recorded, once through."""
    found = of = pairs = starts = 0
    seconds = {"every": 0.0, "shipped": 0.0}
    for path in sorted(VIDEO.glob("*.mp4")):
        rate = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)
        every, shipped = side_by_side(read_clip(path), rate, [Schedule(0.0), Schedule()])
        here = _recall(every, shipped)
        found, of = found + here[0], of + here[1]
        assert len(every.of("start")) == len(shipped.of("start")), path.stem
        pairs, starts = pairs + _pairs(every.of("start"), shipped.of("start")), starts + len(every.of("start"))
        seconds["every"] += every.detection
        seconds["shipped"] += shipped.detection
    figure(
        f"detection on recorded people: ratio {seconds['every'] / seconds['shipped']:.2f}, recall between "
        f"{found} of {of}, {pairs} of {starts} starts within {TOLERANCE} s"
    )
    assert of > 300
    assert found >= 0.98 * of
    assert pairs == starts


def _recall(every: Analysed, shipped: Analysed) -> tuple[int, int]:
    """Of the reported faces that whole looks saw in frames that got a cheap one, count those that it saw as well."""
    found = of = 0
    for view, seen, whole in zip(every.views, shipped.seen, shipped.whole, strict=True):
        if not whole:
            of += len(view)
            found += sum(any(overlap(box, other) > 0.4 for other in seen) for _, box in view)
    return found, of


def _pairs(one: list[Transition], other: list[Transition]) -> int:
    """Count the transitions that have one of the other's in the same place and within the tolerance."""
    left = list(other)
    for transition in one:
        near = [
            candidate
            for candidate in left
            if abs(candidate.time - transition.time) <= TOLERANCE and overlap(candidate.box, transition.box) > 0.1
        ]
        if near:
            left.remove(min(near, key=lambda candidate: abs(candidate.time - transition.time)))
    return len(other) - len(left)
