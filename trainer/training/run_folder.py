"""A run's folder: its configuration, its log, and who works in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer import TrainerError, first_line
from trainer.config import Config
from trainer.data.datasets import Samples
from trainer.files import cannot_write, digest_of, replace_file

LOG = "log.jsonl"
RECORD = "config.json"
#: SHA-256 of the names and labels that were learned from and chosen on.
FACES = "faces.sha256"
#: That of the teachers who are asked about each face as it is drawn.
TEACHERS = "teachers.sha256"
SOURCES = "sources.sha256"
CHECKPOINT = "checkpoint.npz"
#: The weights of the epoch that is kept; there once the training is finished.
WEIGHTS = "best.weights.h5"
LOCK = "checkpoint.lock"
#: What the teachers named on the command line answered.
SOFT_LABELS = "soft_labels.npz"
#: Keys of the configuration that the weights do not depend on, or that only say where they are learned.
NOT_LEARNED_FROM: dict[str, Any] = {
    "quantisation": True,
    "folds": True,
    "training": {"device", "logit_adjustment", "adjust_below", "logit_shifts"},
}
#: So many keys that differ are named in a refusal.
NAMED = 3


class CheckpointError(TrainerError):
    """A run's folder does not belong to this configuration or is damaged; the message says what to do."""


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Say that a file of a run is damaged."""
    return CheckpointError(f"{path}: unreadable ({first_line(error)}); remove {path.parent} to start again")


def is_finished(run: Path) -> bool:
    """Tell whether there is nothing left to train in `run`."""
    return (run / WEIGHTS).is_file() and not (run / CHECKPOINT).is_file()


def check(run: Path, config: Config) -> None:
    """Check that what lies in `run`, if anything, was trained with this configuration; nothing is written.

    Keys that a recorded configuration lacks count as their defaults; what does not change the weights may differ. So
    may everything while no epoch is done: nothing is lost by beginning anew.

    Raises:
        CheckpointError: it is of another one, or unreadable.
    """
    record = run / RECORD
    if not record.is_file() or not _has_learned(run):
        return
    try:
        recorded = Config.model_validate_json(record.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise unreadable(record, error) from None
    there, here = (each.model_dump(mode="json", exclude=NOT_LEARNED_FROM) for each in (recorded, config))
    others = list(_differing(there, here))
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise CheckpointError(
            f"{run}: was trained with another configuration ({', '.join(others[:NAMED])}{more}); choose another --run "
            "or remove it"
        )


def _differing(there: Any, here: Any, key: str = "") -> Iterator[str]:
    """Yield each dotted key that has another value, with both as YAML has them."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted({*there, *here}):
            yield from _differing(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield f"{key}: {json.dumps(there)} there, {json.dumps(here)} here"


def record(run: Path, config: Config) -> None:
    """Record the configuration in `run`, after `check`.

    Raises:
        CheckpointError: another one is recorded there, or it is unreadable.
        WriteError: it cannot be written.
    """
    check(run, config)
    replace_file(run / RECORD, (config.model_dump_json(indent=2) + "\n").encode())


def check_faces(run: Path, *parts: Samples) -> None:
    """Check that what lies in `run`, if anything, was trained with these faces; nothing is written.

    Faces are told apart by name, label and landmarks; a run that has no record of them is believed.

    Raises:
        CheckpointError: it was trained with others, or the record is unreadable.
    """
    _check_digest(run / FACES, _digest(parts), "faces, labels or landmarks")


def record_faces(run: Path, *parts: Samples) -> None:
    """Record in `run` which faces are learned from and chosen on, after `check_faces`.

    Raises:
        CheckpointError: others are recorded there.
        WriteError: it cannot be written.
    """
    check_faces(run, *parts)
    replace_file(run / FACES, f"{_digest(parts)}\n".encode())


def record_teachers(run: Path, digest: str) -> None:
    """Record in `run` the digest of the teachers that are asked about each face as it is drawn.

    Raises:
        CheckpointError: what lies there was trained with others, or the record is unreadable.
        WriteError: it cannot be written.
    """
    _check_digest(run / TEACHERS, digest, "teachers")
    replace_file(run / TEACHERS, f"{digest}\n".encode())


def record_sources(run: Path, paths: Sequence[Path]) -> None:
    """Record in `run` what is in the files that the training begins with: a network to start from, soft labels.

    Raises:
        CheckpointError: what lies there was trained with others, or the record is unreadable.
        WriteError: it cannot be written.
    """
    digest = hashlib.sha256("".join(map(digest_of, paths)).encode()).hexdigest()
    _check_digest(run / SOURCES, digest, "soft labels, or another network to start from")
    replace_file(run / SOURCES, f"{digest}\n".encode())


def _check_digest(path: Path, digest: str, what: str) -> None:
    run = path.parent
    try:
        same = not (path.is_file() and _has_learned(run)) or path.read_text().strip() == digest
    except UnicodeDecodeError as error:
        raise unreadable(path, error) from None
    if not same:
        raise CheckpointError(f"{run}: was trained with other {what}; choose another --run or remove it")


def _has_learned(run: Path) -> bool:
    return any((run / name).is_file() for name in (CHECKPOINT, WEIGHTS))


def _digest(parts: Sequence[Samples]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps([part.faces.labels, part.faces.names]).encode())
        digest.update(part.faces.distributions.tobytes())
        digest.update(part.landmarks.tobytes())
    return digest.hexdigest()


def is_recorded(run: Path, config: Config) -> bool:
    """Tell whether just this configuration is recorded in `run`, keys that the weights do not depend on included."""
    path = run / RECORD
    try:
        return path.is_file() and Config.model_validate_json(path.read_text()) == config
    except (ValidationError, UnicodeDecodeError):
        return False


def read_result(run: Path, name: str, config: Config) -> Any:
    """Return what the file `name` in `run`, JSON, says of a run of this configuration; None if there is none.

    One of the same weights under other keys, such as another quantisation, is removed.

    Raises:
        CheckpointError: what lies in `run` was trained with another configuration, or the file is damaged.
    """
    check(run, config)
    path = run / name
    if not is_recorded(run, config):
        path.unlink(missing_ok=True)
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise unreadable(path, error) from None


def write_result(run: Path, name: str, content: Any) -> None:
    """Write the file `name` in `run` as JSON.

    Raises:
        WriteError: it cannot be written.
    """
    replace_file(run / name, (json.dumps(content) + "\n").encode())


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the epochs recorded in `run`, in order.

    Each has `epoch` (from 1), `loss` and `validation_accuracy`, and newer ones `learning_rate` and `seconds`.

    Raises:
        CheckpointError: the log is damaged.
    """
    path = run / LOG
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except ValueError as error:
        raise unreadable(path, error) from None


def write_log(run: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the log of `run`.

    Raises:
        WriteError: it cannot be written.
    """
    replace_file(run / LOG, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


@contextmanager
def occupied(run: Path) -> Iterator[None]:
    """Keep other processes out of `run`, however this one ends.

    Raises:
        CheckpointError: another process is at work there.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / LOCK).open("w")
    except OSError as error:
        raise cannot_write(run, error, "choose another --run") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(f"{run}: another process trains here; wait for it or choose another --run") from None
        yield
