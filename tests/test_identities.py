"""Who is who on composed scenes, where that is known; the measure itself first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge.events import Box
from edge.schedule import Schedule
from tests.parts.analysis import overlap, side_by_side
from tests.parts.identities import View, identities
from tests.scenes import Visit, clear_portraits, compose, cross, read_clip

RATE = 15
#: A face is found within half a second, and reported half a second later.
REPORTED = 1.0
#: Degrees by which heads tilt to either side.
TILT = 30.0
LEFT, RIGHT = Box(0.1, 0.4, 0.2, 0.2), Box(0.6, 0.4, 0.2, 0.2)


def test_perfect_tracks_are_perfect() -> None:
    truth = [[(0, LEFT), (1, RIGHT)]] * 10
    kept = identities(truth, [[(7, RIGHT), (5, LEFT)]] * 10)
    assert (kept.switches, kept.idf1, kept.mota) == (0, 1.0, 1.0)


def test_swapped_numbers_are_two_switches() -> None:
    truth = [[(0, LEFT), (1, RIGHT)]] * 10
    swapped = [[(5, LEFT), (7, RIGHT)]] * 6 + [[(7, LEFT), (5, RIGHT)]] * 4
    kept = identities(truth, swapped)
    assert kept.switches == 2
    assert [kept.idf1, kept.mota] == pytest.approx([0.6, 0.9])


def test_missed_and_invented_faces_count() -> None:
    kept = identities([[(0, LEFT)]] * 10, [[(5, LEFT)]] * 8 + [[(6, RIGHT)]] * 2)
    assert kept.switches == 0
    assert [kept.idf1, kept.mota] == pytest.approx([0.8, 0.6])
    nobody: list[View] = [[]] * 4
    assert identities(nobody, nobody).mota == 1.0


@pytest.mark.parametrize("kind", ["moving", "tilting", "crossing", "hidden"])
def test_identities_are_kept(tmp_path: Path, figure: Callable[[str], None], kind: str) -> None:
    clip = tmp_path / "clip.mp4"
    portraits = clear_portraits(8, 21)
    if kind in ("moving", "tilting"):
        visits = compose(portraits, clip, rate=RATE, seconds=3, tilt=TILT if kind == "tilting" else 0)
    else:
        visits = cross(portraits, clip, rate=RATE, apart=0.6 if kind == "crossing" else 0.1)
    pictures = read_clip(clip)
    (shipped,) = side_by_side(pictures, RATE, [Schedule()])
    times = [number / RATE for number in range(len(pictures))]
    truth = [_there(visits, time, REPORTED) for time in times]
    tracks = [_not_too_early(view, visits, time) for view, time in zip(shipped.views, times, strict=True)]
    kept = identities(truth, tracks)
    figure(f"identities, {kind}: {kept} ({len(visits)} faces, {len(shipped.of('start'))} ids)")
    # One who is hidden altogether for more than half a second is not always known again.
    assert kept.switches <= (2 if kind == "hidden" else 0)
    assert kept.idf1 >= (0.8 if kind == "hidden" else 0.95)
    assert kept.mota >= (0.8 if kind == "hidden" else 0.95)


def _there(visits: Sequence[Visit], time: float, since: float) -> list[tuple[int, Box]]:
    """Return the faces in view that have been there for so many seconds."""
    there = ((visit, visit.box(time)) for visit in visits if time >= visit.appear + since)
    return [(visit.id, Box(*box)) for visit, box in there if box is not None]


def _not_too_early(view: View, visits: Sequence[Visit], time: float) -> View:
    """Leave out who is reported sooner than must be: neither right nor wrong."""
    due = {number for number, _ in _there(visits, time, REPORTED)}
    early = [box for number, box in _there(visits, time, 0.0) if number not in due]
    return [(number, box) for number, box in view if not any(overlap(box, other) > 0.25 for other in early)]
