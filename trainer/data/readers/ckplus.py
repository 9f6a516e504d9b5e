"""CK+ as it is distributed (Lucey et al., CVPR workshops 2010): sequences from neutral to the peak of an emotion.

`cohn-kanade-images/S005/001/S005_001_00000011.png` is a frame of a sequence, 640×490, and
`Emotion/S005/001/S005_001_00000011_emotion.txt` holds one number, for about half of the sequences.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from trainer.config import Data
from trainer.data.datasets import LABELS, DataError
from trainer.data.readers.archive import Content, Listing, listing
from trainer.data.readers.reading import Item, Reading, one_hot

NAME = "CK+"
CREDIT = "CK+ (Lucey et al., CVPR workshops 2010)"
#: In the order of the codes.
CODES = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
PICTURE = re.compile(r"(?:^|/)cohn-kanade-images/(S\d+)/(\d+)/([^/]+\.png)$", re.IGNORECASE)
LABEL = re.compile(r"(?:^|/)Emotion/(S\d+)/(\d+)/[^/]+_emotion\.txt$", re.IGNORECASE)
Sequence = tuple[str, str]


def read(settings: Data, location: Path) -> Reading:
    """List CK+: the last frames of each labelled sequence, and the first as neutral, as `settings` says.

    Sequences without a label, with a label that cannot be read, or without pictures are listed as skipped.

    Raises:
        DataError: there is nothing of that layout.
    """
    found = listing(location)
    frames = _frames(found)
    labels = {(match[1], match[2]): content for match, content in _matches(found, LABEL)}
    if not frames or not labels:
        missing = "cohn-kanade-images/S###/###/*.png" if not frames else "Emotion/S###/###/*_emotion.txt"
        raise DataError(f"{location}: holds no {missing}; unpack both archives of CK+ there, or name another data.path")
    items: list[Item] = []
    skipped: dict[str, str] = {}
    for sequence in sorted({*frames, *labels}):
        name = "/".join(sequence)
        if sequence not in labels:
            skipped[name] = "no label"
        elif sequence not in frames:
            skipped[name] = "a label, but no pictures"
        elif (label := _label(labels[sequence])) is None:
            skipped[name] = f"its label is no number from 0 to {len(CODES) - 1}"
        else:
            items += _items(sequence, frames[sequence], label, settings)
    if not items:
        raise DataError(f"{location}: no sequence has both pictures and a label; unpack both archives of CK+ there")
    return Reading(NAME, found.location, LABELS, tuple(items), skipped)


def _matches(found: Listing, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Content]]:
    return [(match, content) for path, content in found.files.items() if (match := pattern.search(path))]


def _frames(found: Listing) -> dict[Sequence, list[tuple[str, Content]]]:
    """Return the frames of each sequence, name and content, in order of time."""
    frames = defaultdict(list)
    for match, content in _matches(found, PICTURE):
        frames[match[1], match[2]].append((match[3], content))
    return {sequence: sorted(named, key=lambda frame: frame[0]) for sequence, named in frames.items()}


def _label(content: Content) -> str | None:
    try:
        code = float(content.read())
        return CODES[int(code)] if code >= 0 and code == int(code) else None
    except (OSError, ValueError, IndexError, OverflowError):
        return None


def _items(sequence: Sequence, frames: list[tuple[str, Content]], label: str, settings: Data) -> list[Item]:
    """Label the last frames; the first shows no emotion yet and is never one of them, unless it is the only one."""
    rest = frames[1:] or frames
    chosen = [(frame, label) for frame in rest[-settings.frames :]]
    if settings.neutral and len(frames) > 1:
        chosen.insert(0, (frames[0], "neutral"))
    return [
        Item(f"{'/'.join(sequence)}/{name}", content, one_hot(LABELS, shown), subject=sequence[0])
        for (name, content), shown in chosen
    ]
