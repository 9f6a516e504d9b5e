"""TensorBoard's curves of a run, written without TensorFlow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from trainer.files import cannot_write

FOLDER = "tensorboard"
FILE = "events.out.tfevents.0.training"
#: Key of the log → name of the curve.
CURVES = {"loss": "loss", "validation_accuracy": "validation accuracy", "learning_rate": "learning rate"}


def begin(run: Path, entries: list[dict[str, Any]]) -> None:
    """Start the curves of `run` anew, with the epochs that are done.

    Raises:
        WriteError: they cannot be written.
    """
    path = run / FOLDER / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    _append(path, [Event(wall_time=time.time(), file_version="brain.Event:2"), *map(_event, entries)])


def go_on(run: Path, entry: dict[str, Any]) -> None:
    """Add an epoch to the curves of `run`.

    Raises:
        WriteError: they cannot be written.
    """
    _append(run / FOLDER / FILE, [_event(entry)])


def _event(entry: dict[str, Any]) -> Any:
    values = [Summary.Value(tag=name, simple_value=entry[key]) for key, name in CURVES.items() if key in entry]
    return Event(wall_time=time.time(), step=entry["epoch"], summary=Summary(value=values))


def _append(path: Path, events: list[Any]) -> None:
    try:
        with path.open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())
    except OSError as error:
        raise cannot_write(path, error) from None
