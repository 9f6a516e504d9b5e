"""Pure: what a changed settings file asks for, with as little interruption as can be."""

from __future__ import annotations

from dataclasses import dataclass

from edge.settings import Settings

#: Top-level keys that change while everything else goes on; all others need a new start of everything in the process.
LIVE = {"cameras", "tracking", "summary", "log", "model"}
#: Keys of `detector` that do.
LIVE_DETECTOR = {"threshold", "interval"}


@dataclass(frozen=True)
class Changes:
    """What is to be done.

    Attributes:
        everything: keys for which everything has to start anew; none in most cases.
        stop: cameras that end or are read anew, in the order of the old settings.
        start: cameras that begin or are read anew, in the order of the new settings.
        removed: cameras that are gone for good.
    """

    everything: tuple[str, ...]
    stop: tuple[str, ...]
    start: tuple[str, ...]
    removed: tuple[str, ...]


def changes(old: Settings, new: Settings) -> Changes:
    """Compare settings."""
    keys = [key for key in Settings.model_fields if key not in (*LIVE, "detector")]
    different = [key for key in keys if getattr(old, key) != getattr(new, key)]
    if old.detector.model_dump(exclude=LIVE_DETECTOR) != new.detector.model_dump(exclude=LIVE_DETECTOR):
        different.append("detector")
    all_anew = old.detector.interval != new.detector.interval
    same = {name for name, camera in new.cameras.items() if not all_anew and old.cameras.get(name) == camera}
    return Changes(
        everything=tuple(different),
        stop=tuple(name for name in old.cameras if name not in same),
        start=tuple(name for name in new.cameras if name not in same),
        removed=tuple(name for name in old.cameras if name not in new.cameras),
    )
