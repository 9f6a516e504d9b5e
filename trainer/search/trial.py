"""One trial of a search, in the process that trains it, and what a search hears of its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer import TrainerError
from trainer.config import Config
from trainer.data.datasets import Samples
from trainer.quiet import load_keras
from trainer.training.run_folder import read_log


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        accuracies: on validation, one an epoch, fractions.
        given_up: why it did not train to its end; empty if it did.
        seconds: it took, without those of a process that died.
    """

    accuracies: tuple[float, ...]
    given_up: str
    seconds: float


@dataclass(frozen=True)
class Epoch:
    """A trial has trained an epoch, from 1, and waits to be told whether to go on."""

    number: int
    epoch: int
    accuracy: float
    answer: Callable[[bool], None]


@dataclass(frozen=True)
class Done:
    """A trial has ended."""

    number: int
    outcome: Outcome


@dataclass(frozen=True)
class Died:
    """The process of a trial is gone, and the trial has to be begun again."""

    number: int
    reason: str


@dataclass(frozen=True)
class Refused:
    """A trial met something that the user has to put right."""

    number: int
    error: TrainerError | OSError


Event = Epoch | Done | Died | Refused


class Workers(Protocol):
    """Where trials are trained: processes of this machine, or a cluster."""

    def slots(self) -> int:
        """Return how many trials can be trained at a time, at least 1."""

    def start(self, number: int, config: Config, run: Path) -> None:
        """Begin a trial, or go on with one whose run folder can be reached from where it is trained."""

    def wait(self) -> Sequence[Event]:
        """Return what has happened; after a while perhaps nothing."""

    def close(self) -> None:
        """End all processes, and the trials in them."""


class _Pruned(Exception):  # noqa: N818
    """Ends a training that is given up."""


def prepare_process(threads: int) -> None:
    """Load Keras and keep TensorFlow's and OpenCV's work within so many threads, to be called before any training."""
    load_keras()
    import cv2
    import keras

    cv2.setNumThreads(1)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def run_trial(
    config: Config, train: Samples, validation: Samples, run: Path, go_on: Callable[[int, float], bool]
) -> Outcome:
    """Train one trial.

    Args:
        config: the trial's.
        train: what is learned from.
        validation: what it is judged by.
        run: folder of log and checkpoints; what lies there is gone on with.
        go_on: told epoch, from 1, and validation accuracy; tells whether to train on.

    Raises:
        TrainerError: the trial cannot be trained, and no other could.
    """
    import keras

    from trainer.training.fit import TrainingError, fit

    def after_epoch(epoch: int, accuracy: float) -> None:
        if not go_on(epoch, accuracy):
            raise _Pruned("it fell behind the others")

    started = time.monotonic()
    given_up = ""
    try:
        fit(train, validation, config, run, after_epoch)
    except (_Pruned, TrainingError) as error:
        given_up = str(error)
    finally:
        keras.backend.clear_session()
    accuracies = tuple(entry["validation_accuracy"] for entry in read_log(run))
    return Outcome(accuracies, given_up, time.monotonic() - started)
