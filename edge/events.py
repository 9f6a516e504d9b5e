"""What the daemon says: events, faces in view and states, and how they are written."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal

SCHEMA = "emotion-edge/event/1"
FACES_SCHEMA = "emotion-edge/faces/1"
#: What is retained of a camera, by the last level of the topic; the status last: who finds it knows of the rest.
RETAINED = ("summary", "emotion", "status")
EventType = Literal["start", "change", "end"]
EndReason = Literal["left", "camera_offline", "paused", "stopped", "model_changed", "restarted"]


@dataclass(frozen=True)
class Box:
    """A rectangle in fractions of the picture (0–1), x and y of its top-left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class EventFace:
    """The face of an event: an id never used again, where it was last seen, the detector's confidence (0–1)."""

    id: str
    box: Box
    confidence: float


@dataclass(frozen=True)
class Event:
    """A face appeared (`start`), changed its emotion (`change`) or left (`end`).

    Attributes:
        id: UUIDv7 of `time`; the same event always has the same id.
        epoch: the outbox the event was made with; later ones have higher numbers.
        seq: number of the event within camera and epoch.
        time: seconds since 1970 of the deciding frame's capture.
        first_seen: seconds since 1970 of the face's first frame.
        probability: of `emotion`, calibrated and smoothed, 0–1.
        probabilities: of every emotion.
        previous: on `change`, the emotion before.
        duration: seconds; on `end` since `first_seen`, on `change` in `previous`, none on `start`.
        reason: on `end`, why.
    """

    id: str
    epoch: int
    seq: int
    node: str
    camera: str
    type: EventType
    time: float
    first_seen: float
    face: EventFace
    emotion: str
    probability: float
    probabilities: dict[str, float]
    previous: str | None
    duration: float | None
    reason: EndReason | None
    model: str

    def encode(self) -> bytes:
        """Write the event as JSON."""
        document = {"schema": SCHEMA, **asdict(self)}
        document["time"], document["first_seen"] = rfc3339(self.time), rfc3339(self.first_seen)
        return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True)
class FaceInView:
    """A reported face after one frame.

    Attributes:
        id: as in its events.
        box: where it was last seen, in fractions of the picture.
        confidence: of the detector there, 0–1.
        in_sight: whether it was found when it was last looked for; a face is in view until it has left.
        emotion: that its events would tell.
        probability: of `emotion`, calibrated and smoothed, 0–1.
        probabilities: of every emotion.
    """

    id: str
    box: Box
    confidence: float
    in_sight: bool
    emotion: str
    probability: float
    probabilities: dict[str, float]


def encode_faces(node: str, camera: str, time: float, faces: Iterable[FaceInView], model: str) -> bytes:
    """Write what is in view after a frame that was captured at `time`, seconds since 1970."""
    where = {"schema": FACES_SCHEMA, "node": node, "camera": camera, "time": rfc3339(time)}
    return json.dumps(
        {**where, "faces": [asdict(face) for face in faces], "model": model}, separators=(",", ":")
    ).encode()


def decode_event(payload: bytes) -> Event:
    """Read an event; unknown fields are ignored.

    Raises:
        ValueError: it is no event of schema 1.
    """
    try:
        document: dict[str, Any] = json.loads(payload)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}, expected {SCHEMA!r}")
        known = {name: document[name] for name in Event.__dataclass_fields__}
        face = known["face"]
        box = Box(**{name: face["box"][name] for name in Box.__dataclass_fields__})
        known["face"] = EventFace(face["id"], box, face["confidence"])
        known["time"], known["first_seen"] = from_rfc3339(known["time"]), from_rfc3339(known["first_seen"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {error}") from None
    return Event(**known)


def restarted(last: Event, epoch: int, seq: int) -> Event:
    """Return the end of a face whose run died: nobody knows when it left, and `last` is what was said of it last."""
    return replace(
        last,
        id=event_id(last.node, last.camera, epoch, seq, last.time),
        epoch=epoch,
        seq=seq,
        type="end",
        previous=None,
        duration=round(max(0.0, last.time - last.first_seen), 3),
        reason="restarted",
    )


def event_id(node: str, camera: str, epoch: int, seq: int, time: float) -> str:
    """Return a UUIDv7 (RFC 9562) of `time` whose random bits are a hash of the rest."""
    digest = int.from_bytes(hashlib.sha256(f"{node}/{camera}/{epoch}/{seq}".encode()).digest()[:10], "big")
    bits = (max(0, milliseconds(time)) & (1 << 48) - 1) << 80 | digest
    bits = bits & ~(0xF << 76) | 7 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=bits))


def milliseconds(time: float) -> int:
    """Round once for all, so that the id of an event is that of its time as written."""
    return round(time * 1000)


def rfc3339(time: float) -> str:
    """Write seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    seconds, rest = divmod(milliseconds(time), 1000)
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> float:
    """Read RFC 3339 as seconds since 1970."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def state(name: Literal["online", "offline"], **details: object) -> bytes:
    """Write a status message of a node or camera."""
    return json.dumps({"state": name, **details}, separators=(",", ":")).encode()
