"""Faces over time. Pure: no clock, no input or output; the same observations give the same transitions.

A face is tracked by where it moves, how large it is and, once it was out of sight, what it looks like. It is reported
after it was seen for a while, its emotion is an exponential average of the calibrated probabilities, and it changes
only past two thresholds and a dwell time. A detection too weak to begin a track can carry one on (ByteTrack,
arXiv:2110.06864).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.events import Box

Floats = npt.NDArray[np.float32]
Probabilities = Floats

#: How far a face may be from where it is expected, in multiples of its size: at once, and more per second unseen.
REACH, REACH_PER_SECOND, LARGEST_REACH = 0.7, 0.5, 1.2
#: A face out of sight for longer than this is taken for the same again only if it looks alike: the least dot product
#: of `Observation.look`, and more per face size that it is away from where it is expected.
SIGHT, ALIKE, ALIKE_PER_SIZE = 0.25, 0.5, 0.2
#: A face about to be reported is one that went out of sight before it came, if it began no further from where that one
#: is expected, in face sizes (half hidden, a face seems to move otherwise than it does), and looks alike on average.
RETURN_REACH, RETURN_ALIKE, RETURN_ALIKE_PER_SIZE = 2.0, 0.55, 0.05
#: What a detection too weak to begin a track costs beside a strong one.
WEAK = 0.3
#: Weight of a look that differs, against a distance of one face size.
LOOK_WEIGHT = 0.5
#: Time constant of the average over a face's looks, seconds.
LOOK_AVERAGE = 1.0
#: How much a face may grow or shrink between two observations of it.
LARGEST_GROWTH = 1.8
#: A face not yet reported is forgotten once a frame lacks it and it is unseen for this many seconds: longer than
#: `edge.schedule.INTERVAL`, so that it gets a second look at the whole picture.
UNCONFIRMED_LOST = 0.5
#: Seconds over which velocity is averaged, and for which it is believed once the face is out of sight.
VELOCITY_AVERAGE, VELOCITY_BELIEVED = 0.3, 0.4
#: Who has moved on by more than this, in face sizes, has to be looked for.
STEADY = 0.25
#: A face must have been seen this often before it is reported, however slow the camera.
LEAST_OBSERVATIONS = 3


@dataclass(frozen=True)
class Rules:
    """When a face counts and when its emotion changes.

    Attributes:
        begin: least confidence of the detection that begins a track; weaker ones only carry one on.
        appear: seconds for which a face must be seen before it is reported.
        lost: seconds unseen after which it is gone.
        smoothing: time constant of the average over probabilities, seconds.
        enter: a new emotion needs at least this probability …
        exit: … while the present one has at most this one …
        dwell: … for this many seconds.
    """

    begin: float = 0.45
    appear: float = 0.5
    lost: float = 2.0
    smoothing: float = 0.6
    enter: float = 0.5
    exit: float = 0.4
    dwell: float = 0.5


@dataclass(frozen=True)
class Observation:
    """A face in one frame.

    Attributes:
        box: fractions of the picture; may reach beyond it.
        confidence: of the detector, 0–1.
        probabilities: float32 (classes,), calibrated.
        look: float32 (n,) of unit length, what the face looks like; none if that is not to count.
        landmarks: float32 (6, 2), where they are, in fractions of the picture; none if that was not looked at.
        number: of the track whose face was read where it was expected, without being looked for.
    """

    box: Box
    confidence: float
    probabilities: Probabilities
    look: Probabilities | None = None
    landmarks: Floats | None = None
    number: int | None = None


@dataclass
class Track:
    """A face followed over time; times in seconds of the frames' clock.

    Attributes:
        last_seen: when it was last found; `last_read` when its expression was last read, which can be later.
        measured: when its landmarks were last looked at.
        in_sight: whether it was found when it was last looked for.
    """

    number: int
    first_seen: float
    last_seen: float
    last_read: float
    began: Box
    box: Box
    confidence: float
    look: Probabilities | None = None
    landmarks: Floats | None = None
    measured: float = float("-inf")
    in_sight: bool = True
    looks: Probabilities | None = None
    observations: int = 1
    velocity: tuple[float, float] = (0.0, 0.0)
    emotion: int = -1
    emotion_since: float = 0.0
    confirmed: bool = False
    candidate: int = -1
    candidate_since: float = 0.0
    weight: float = 0.0
    weighted: Probabilities = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def probabilities(self) -> Probabilities:
        """Smoothed probabilities, float32 (classes,)."""
        return self.weighted / np.float32(self.weight)


@dataclass(frozen=True)
class Transition:
    """What happened to a reported face: it appeared, changed its emotion, or left.

    Attributes:
        time: of the deciding frame; on `end`, of the last frame in which the face was found.
        previous: on `change`, index of the emotion before.
        duration: on `end` the seconds since it was first seen, on `change` the seconds in `previous`.
    """

    type: Literal["start", "change", "end"]
    time: float
    number: int
    first_seen: float
    box: Box
    confidence: float
    emotion: int
    probabilities: Probabilities
    previous: int | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a face is looked for.

    Attributes:
        box: of the face, in fractions of the picture.
        moved: how far it should have come since it was last seen, in multiples of its size.
    """

    box: Box
    moved: float = 0.0


@dataclass(frozen=True)
class Known:
    """A face that is taken to be where it is expected; `box` and `landmarks` in fractions of the picture."""

    number: int
    box: Box
    landmarks: Floats
    confidence: float


@dataclass(frozen=True)
class Expected:
    """A followed face as a tracker last knew it.

    Attributes:
        seen: found when it was last looked for.
        measured: when its landmarks were last looked at.
    """

    number: int
    box: Box
    velocity: tuple[float, float]
    last_seen: float
    confirmed: bool
    seen: bool
    landmarks: Floats | None = None
    confidence: float = 1.0
    measured: float = float("-inf")

    def at(self, time: float) -> Box:
        """Return where the face should be at `time`."""
        x, y = self._moved(time)
        return Box(self.box.x + x, self.box.y + y, self.box.width, self.box.height)

    def place(self, time: float) -> Place:
        """Return where to look for the face at `time`."""
        return Place(self.at(time), self._share_moved(time))

    def known(self, time: float) -> Known | None:
        """Return the face as it should be at `time`, good enough to be read; none if it has to be looked for."""
        if not (self.seen and self.confirmed) or self.landmarks is None or self._share_moved(time) > STEADY:
            return None
        landmarks = self.landmarks + np.array(self._moved(time), np.float32)
        return Known(self.number, self.at(time), landmarks, self.confidence)

    def _share_moved(self, time: float) -> float:
        x, y = self._moved(time)
        return math.hypot(x / max(self.box.width, 1e-6), y / max(self.box.height, 1e-6))

    def _moved(self, time: float) -> tuple[float, float]:
        seconds = min(max(0.0, time - self.last_seen), VELOCITY_BELIEVED)
        return self.velocity[0] * seconds, self.velocity[1] * seconds


@dataclass(frozen=True)
class Outlook:
    """What a tracker expects of the frames to come.

    Attributes:
        faces: that it follows.
    """

    faces: tuple[Expected, ...] = ()

    def likely(self, time: float) -> list[Expected]:
        """Return the faces that can still be near where they should be at `time`, those just seen first."""
        near = (face for face in self.faces if time - face.last_seen <= VELOCITY_BELIEVED)
        return sorted(near, key=lambda face: (not face.seen, -face.last_seen, face.number))


class Tracker:
    """Follows the faces of one camera.

    Args:
        rules: when faces and emotions count.
        aspect: width of the picture divided by its height, so that distances are the same both ways.
    """

    def __init__(self, rules: Rules, aspect: float = 16 / 9) -> None:
        self._rules = rules
        self.aspect = aspect
        self._tracks: list[Track] = []
        self._numbers = 0

    def update(self, time: float, observations: Sequence[Observation]) -> list[Transition]:
        """Take in the faces of the frame at `time` (seconds, not going back); their order does not matter."""
        ordered = sorted(observations, key=_order)
        transitions = self._drop_lost(time)
        pairs = self._match(time, ordered)
        for track in self._tracks:
            track.in_sight = False
        for track, observation in pairs:
            self._advance(track, time, observation)
        for track, _ in pairs:
            transitions += self._judge(track, time)
        taken = {id(observation) for _, observation in pairs}
        for observation in ordered:
            if id(observation) not in taken and observation.confidence >= self._rules.begin:
                self._tracks.append(self._begin(time, observation))
        return transitions

    def read(self, time: float, observations: Sequence[Observation]) -> list[Transition]:
        """Take in what reported faces show in the frame at `time`, in which they were not looked for.

        Who was missed meanwhile, or found to be elsewhere, is not there: what its place shows counts for nothing.
        """
        transitions = []
        for observation in observations:
            track = next((track for track in self._tracks if track.number == observation.number), None)
            if track is None or not (track.in_sight and track.confirmed):
                continue
            if self._away(track, observation.box, time)[0] <= STEADY:
                self._average(track, time, observation.probabilities)
                transitions += self._judge(track, time)
        return transitions

    def change_rules(self, rules: Rules) -> None:
        """Go by other rules from the next frame on; faces in view stay."""
        self._rules = rules

    def close(self) -> list[Transition]:
        """End every face: the camera is gone or the daemon stops."""
        ended = [_end(track) for track in self._tracks if track.confirmed]
        self._tracks.clear()
        return ended

    def in_view(self) -> list[Track]:
        """Return the reported faces, oldest first; not to be changed."""
        return [track for track in self._tracks if track.confirmed]

    def following(self) -> bool:
        """Tell whether there are faces to look for in the next frame, reported or not."""
        return bool(self._tracks)

    def outlook(self) -> Outlook:
        """Return what is expected from here on; it stays as it is when the tracker goes on."""
        return Outlook(
            tuple(
                Expected(
                    track.number,
                    track.box,
                    track.velocity,
                    track.last_seen,
                    track.confirmed,
                    track.in_sight,
                    track.landmarks,
                    track.confidence,
                    track.measured,
                )
                for track in self._tracks
            )
        )

    def _match(self, time: float, observations: Sequence[Observation]) -> list[tuple[Track, Observation]]:
        """Pair tracks and observations, nearest first."""
        costs = []
        for row, track in enumerate(self._tracks):
            for column, observation in enumerate(observations):
                cost = self._cost(track, observation, time)
                if cost is not None:
                    costs.append((cost, track.number, row, column))
        pairs, rows, columns = [], set(), set()
        for _, _, row, column in sorted(costs):
            if row not in rows and column not in columns:
                rows.add(row)
                columns.add(column)
                pairs.append((self._tracks[row], observations[column]))
        return pairs

    def _cost(self, track: Track, observation: Observation, time: float) -> float | None:
        """Return by how much an observation differs from what is expected of a track; none if by too much.

        Distance in face sizes, growth, and difference of looks add up.
        """
        unseen = time - track.last_seen
        distance, growth = self._away(track, observation.box, time)
        reach = min(REACH + REACH_PER_SECOND * unseen, LARGEST_REACH)
        if distance > reach or growth > math.log(LARGEST_GROWTH):
            return None
        alike = _alikeness(track, observation)
        if unseen > SIGHT and alike < ALIKE + ALIKE_PER_SIZE * distance:
            return None
        weak = WEAK if observation.confidence < self._rules.begin else 0.0
        return distance + growth + LOOK_WEIGHT * (1 - alike) + weak

    def _away(self, track: Track, box: Box, time: float) -> tuple[float, float]:
        """Return how far a box is from where a track is expected, in face sizes, and the logarithm of its growth."""
        believed = min(time - track.last_seen, VELOCITY_BELIEVED)
        old = track.box
        dx = (box.x + box.width / 2) - (old.x + old.width / 2 + track.velocity[0] * believed)
        dy = (box.y + box.height / 2) - (old.y + old.height / 2 + track.velocity[1] * believed)
        size = max(old.height, 1e-6)
        return math.hypot(dx * self.aspect, dy) / size, abs(math.log(max(box.height, 1e-6) / size))

    def _begin(self, time: float, observation: Observation) -> Track:
        self._numbers += 1
        track = Track(self._numbers, time, time, time, observation.box, observation.box, observation.confidence)
        track.look = track.looks = observation.look
        track.landmarks, track.measured = observation.landmarks, time
        track.weighted, track.weight = observation.probabilities.copy(), 1.0
        return track

    def _advance(self, track: Track, time: float, observation: Observation) -> None:
        step = time - track.last_seen
        moved = (
            (observation.box.x + observation.box.width / 2) - (track.box.x + track.box.width / 2),
            (observation.box.y + observation.box.height / 2) - (track.box.y + track.box.height / 2),
        )
        if step > 0:
            share = 1 - math.exp(-step / VELOCITY_AVERAGE)
            track.velocity = (
                track.velocity[0] + share * (moved[0] / step - track.velocity[0]),
                track.velocity[1] + share * (moved[1] / step - track.velocity[1]),
            )
        if observation.look is not None and track.looks is not None:
            kept = math.exp(-step / LOOK_AVERAGE)
            track.looks = kept * track.looks + (1 - kept) * observation.look
        track.look = observation.look
        self._average(track, time, observation.probabilities)
        if observation.landmarks is not None:
            track.landmarks, track.measured = observation.landmarks, time
        elif track.landmarks is not None:  # they move with the face
            track.landmarks = track.landmarks + np.array(moved, np.float32)
        track.box, track.confidence = observation.box, observation.confidence
        track.last_seen, track.in_sight = time, True
        track.observations += 1

    def _average(self, track: Track, time: float, probabilities: Probabilities) -> None:
        """Let what a face shows count, and what it showed before for less."""
        kept = math.exp(-(time - track.last_read) / self._rules.smoothing)
        track.weighted = track.weighted * np.float32(kept) + probabilities
        track.weight = track.weight * kept + 1
        track.last_read = time

    def _judge(self, track: Track, time: float) -> list[Transition]:
        """Decide whether a track just seen is to be reported, or has changed its emotion."""
        probabilities = track.probabilities
        leader = int(probabilities.argmax())
        if not track.confirmed:
            if time - track.first_seen < self._rules.appear or track.observations < LEAST_OBSERVATIONS:
                return []
            before = self._was_before(track)
            if before is not None:
                self._go_on(before, track)
                return []
            track.confirmed, track.emotion, track.emotion_since = True, leader, time
            return [_transition("start", track, time)]
        if not self._overtaken(track, leader, probabilities):
            track.candidate = -1
            return []
        if track.candidate != leader:
            track.candidate, track.candidate_since = leader, time
        if time - track.candidate_since < self._rules.dwell:
            return []
        previous, duration = track.emotion, time - track.emotion_since
        track.emotion, track.emotion_since, track.candidate = leader, time, -1
        return [_transition("change", track, time, previous, duration)]

    def _was_before(self, track: Track) -> Track | None:
        """Return the reported face, out of sight since before `track` began, that `track` is; none if it is new.

        Who comes out from behind another is half hidden at first and looks like nobody; what a face looked like until
        it is reported tells more.
        """
        if track.looks is None:
            return None
        now = Observation(track.began, track.confidence, track.probabilities, _unit(track.looks))
        found = []
        for other in self._tracks:
            if other.confirmed and other.look is not None and other.last_seen < track.first_seen:
                distance, growth = self._away(other, track.began, track.first_seen)
                alike = _alikeness(other, now)
                near = distance <= RETURN_REACH and growth <= math.log(LARGEST_GROWTH)
                if near and alike >= RETURN_ALIKE + RETURN_ALIKE_PER_SIZE * distance:
                    found.append((-alike, other.number, other))
        return min(found)[2] if found else None

    def _go_on(self, before: Track, track: Track) -> None:
        """Let a reported face go on as `track`, which was the same."""
        self._tracks.remove(track)
        before.box, before.confidence, before.velocity = track.box, track.confidence, track.velocity
        before.look, before.looks = track.look, track.looks
        before.landmarks, before.measured = track.landmarks, track.measured
        before.last_seen, before.last_read, before.in_sight = track.last_seen, track.last_read, track.in_sight
        before.weighted, before.weight, before.candidate = track.weighted, track.weight, -1

    def _overtaken(self, track: Track, leader: int, probabilities: Probabilities) -> bool:
        strong = probabilities[leader] >= self._rules.enter
        return leader != track.emotion and bool(strong and probabilities[track.emotion] <= self._rules.exit)

    def _drop_lost(self, time: float) -> list[Transition]:
        kept, transitions = [], []
        for track in self._tracks:
            unseen = time - track.last_seen
            # With a camera so slow that no frame came in between, nothing was missed yet.
            if track.in_sight or unseen <= (self._rules.lost if track.confirmed else UNCONFIRMED_LOST):
                kept.append(track)
            elif track.confirmed:
                transitions.append(_end(track))
        self._tracks = kept
        return transitions


def _order(observation: Observation) -> tuple[float, ...]:
    box = observation.box
    return (box.x, box.y, box.width, box.height, observation.confidence, *map(float, observation.probabilities))


def _alikeness(track: Track, observation: Observation) -> float:
    """Compare looks, with the last and with the average one, -1…1; 1 if there is nothing to compare."""
    if observation.look is None or track.look is None or track.looks is None:
        return 1.0
    return max(float(track.look @ observation.look), float(_unit(track.looks) @ observation.look))


def _unit(look: Probabilities) -> Probabilities:
    """Return a look, or an average of some, at unit length."""
    return np.asarray(look / max(float(np.linalg.norm(look)), 1e-6), np.float32)


def _end(track: Track) -> Transition:
    return _transition("end", track, track.last_seen, duration=track.last_seen - track.first_seen)


def _transition(
    kind: Literal["start", "change", "end"],
    track: Track,
    time: float,
    previous: int | None = None,
    duration: float | None = None,
) -> Transition:
    return Transition(
        kind,
        time,
        track.number,
        track.first_seen,
        track.box,
        track.confidence,
        track.emotion,
        track.probabilities,
        previous,
        duration,
    )
