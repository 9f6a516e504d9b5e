"""Learns the weights: epoch by epoch, each followed by judgement and checkpoint."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer import TrainerError
from trainer.architectures import build
from trainer.config import Config, Training
from trainer.data.datasets import DataError, Faces, Samples
from trainer.files import replace_file
from trainer.training import checkpoints, curves, devices
from trainer.training.adjustment import adjust, adjustment, shifts
from trainer.training.batches import Asked, Batches, class_weights, smoothed, steps_of
from trainer.training.checkpoints import State
from trainer.training.cpu_layers import with_cpu_layers
from trainer.training.distil import DistillationError, softened, taught
from trainer.training.judge import Judge, averaged, float32_network
from trainer.training.optimisers import optimiser
from trainer.training.run_folder import (
    CHECKPOINT,
    SOFT_LABELS,
    WEIGHTS,
    check,
    check_faces,
    is_finished,
    occupied,
    record,
    record_faces,
    record_sources,
    record_teachers,
    unreadable,
    write_log,
)
from trainer.training.view_teachers import ViewTeachers

Floats = npt.NDArray[np.float32]
AfterEpoch = Callable[[int, float], None]


class TrainingError(TrainerError):
    """The training cannot go on; the message says why and what to change."""


def fit(
    train: Samples, validation: Samples, config: Config, run: Path, after_epoch: AfterEpoch | None = None
) -> keras.Model:
    """Train in the folder `run`, resuming what lies there, and return the float32 network of the kept epoch.

    A run that is finished is not trained again.

    Args:
        train: what is learned from.
        validation: what the best epoch is chosen on.
        config: the run's configuration.
        run: folder of configuration, log and checkpoints.
        after_epoch: called after each epoch trained now with its number, from 1, and the validation accuracy, a
            fraction; an exception it raises ends the training, and the same call later resumes it.

    Raises:
        CheckpointError: what lies in `run` is of another configuration, other faces, other teachers or soft labels, or
            began with another network, or it is unreadable, or another process is there.
        DataError: there are no faces to choose the best epoch on, or a class whose logit is to be shifted.
        DeviceError: the GPU asked for is not there.
        DistillationError: soft labels or teachers are missing, or do not fit.
        TrainingError: the loss is no number any more.
        WriteError: the disk is full.
    """
    ready(run, config)
    check_faces(run, train, validation)
    added = _added(config.training, train.faces)
    if not len(validation) and (config.training.keep == "best" or config.training.patience):
        raise DataError(
            "no validation faces to choose the best epoch on; raise data.validation, or take training.keep last "
            "without training.patience"
        )
    with occupied(run):
        teachers = None if is_finished(run) else _view_teachers(config, train.faces.labels)
        record(run, config)
        record_faces(run, train, validation)
        sources = _sources(config.training)
        if all(path.is_file() for path in sources):  # a finished run needs them no more
            record_sources(run, sources)
        if teachers:
            record_teachers(run, teachers.digest())
        if not is_finished(run):
            with devices.on(config.training.device):
                _train(train, validation, config, run, teachers, after_epoch)
        network = _kept_network(run, config, len(train.faces.labels))
        adjust(network, added)
        return network


def _added(training: Training, faces: Faces) -> Floats:
    """Return what is added to the logits (classes,) of the trained network."""
    adjusted = adjustment(faces.distributions, training.logit_adjustment, training.adjust_below)
    return adjusted + shifts(faces.labels, training.logit_shifts)


def _sources(training: Training) -> list[Path]:
    """Return the files that a training begins with."""
    soft_labels = training.distillation.files() if training.distillation else ()
    return [*([training.start] if training.start else []), *soft_labels]


def ready(run: Path, config: Config) -> None:
    """Check that a training with this configuration can begin or go on in `run`; nothing is written.

    Raises:
        CheckpointError: what lies there is of another configuration or unreadable.
        DeviceError: the GPU asked for is not there.
        DistillationError: a teacher to be asked about faces as they are drawn is missing.
    """
    check(run, config)
    if is_finished(run):
        return
    devices.require(config.training.device)
    settings = config.training.distillation
    for path in (settings.teachers if settings else None) or ():
        if not path.is_file():
            raise DistillationError(f"{path}: no such file; name a model file in training.distillation.teachers")


def _train(
    train: Samples,
    validation: Samples,
    config: Config,
    run: Path,
    teachers: ViewTeachers | None,
    after_epoch: AfterEpoch | None,
) -> None:
    targets, weights = _targets(train, config.training, run)
    asked = _asked(teachers, config)
    devices.repeatable(config.seed)
    learner = _learner(config, len(train.faces.labels), steps_of(len(train), config))
    judge = Judge(config, train, validation)
    state = _resume(run, learner) if (run / CHECKPOINT).is_file() else State()
    write_log(run, state.log)
    curves.begin(run, state.log)
    with _progress() as progress:
        task = progress.add_task("training", total=steps_of(len(train), config))
        moved = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: progress.advance(task))
        while not is_over(state.log, config.training):
            epoch = len(state.log)
            progress.reset(task, description=f"epoch {epoch + 1} of {config.training.epochs}")
            began = time.monotonic()
            batches = Batches(train, targets, weights, config, epoch)
            history = learner.fit(batches.taught_by(asked), epochs=1, shuffle=False, verbose=0, callbacks=[moved])
            loss = _number(history.history["loss"][0], epoch, config.training)
            accuracy = judge.accuracy(learner)
            if config.training.average_switch:
                learner.set_weights(averaged(learner))
            entry = {
                "epoch": epoch + 1,
                "loss": round(loss, 5),
                "validation_accuracy": accuracy,
                "learning_rate": float(learner.optimizer.learning_rate),
                "seconds": round(time.monotonic() - began, 2),
            }
            state = _after(state, entry, learner, judge, config.training)
            checkpoints.save(run / CHECKPOINT, state)
            write_log(run, state.log)
            curves.go_on(run, entry)
            progress.console.print(f"epoch {epoch + 1}: loss {loss:.4f}, validation {accuracy:.4f}")
            if after_epoch:
                after_epoch(epoch + 1, accuracy)
    _finish(run, judge.network, state)


def _targets(train: Samples, training: Training, run: Path) -> tuple[Floats, Floats]:
    """Return what each face should be answered with (n, classes), and how much it counts (n,).

    The share of teachers who are asked about each face as it is drawn is not in it.
    """
    labels = train.faces.distributions
    targets = smoothed(labels, training.label_smoothing)
    settings = training.distillation
    if settings:
        paths = settings.files() or (() if settings.teachers else (run / SOFT_LABELS,))
        targets = taught(targets, train.faces, settings, paths)
    return targets, class_weights(labels, training.class_weights)


def _view_teachers(config: Config, labels: tuple[str, ...]) -> ViewTeachers | None:
    settings = config.training.distillation
    if settings is None or not settings.teachers:
        return None
    return ViewTeachers(settings.teachers, labels, config.crop, settings.calibrated)


def _asked(teachers: ViewTeachers | None, config: Config) -> Asked | None:
    """Return what gives the teachers' share of the target of faces as they are drawn."""
    settings = config.training.distillation
    if teachers is None or settings is None:
        return None
    share = np.float32(settings.shares()[1])
    return lambda crops: np.asarray(share * softened(teachers(crops), settings.temperature), np.float32)


def _learner(config: Config, classes: int, steps: int) -> keras.Model:
    keras.mixed_precision.set_global_policy(config.training.precision)
    model = build(config.architecture, config.crop.shape(), classes)
    if (
        config.training.precision == "mixed_bfloat16"
    ):  # where it matters; in float32 a run gives the bytes it always gave
        model = with_cpu_layers(model)
    if config.training.start:
        start = checkpoints.load_network(config.training.start)
        checkpoints.copy_weights(config.training.start, start, model, narrower=True)
    optimizer = optimiser(config.training, steps)
    optimizer.build(model.trainable_variables)
    # Without its compiler JAX would run operation by operation; TensorFlow's changes the result in the last bits.
    compiled = "auto" if keras.backend.backend() == "jax" else False
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=compiled)
    return model


def _resume(run: Path, learner: keras.Model) -> State:
    path = run / CHECKPOINT
    state = checkpoints.load(path)
    checkpoints.assign(learner.variables, state.model, path)
    checkpoints.assign(learner.optimizer.variables, state.optimizer, path)
    return state


def is_over(log: list[dict[str, Any]], training: Training) -> bool:
    """Tell whether all epochs of a log are done, time is up, or the best epoch is long ago."""
    if not log:
        return False
    if training.minutes and sum(entry["seconds"] for entry in log) >= 60 * training.minutes:
        return True
    accuracies = [entry["validation_accuracy"] for entry in log]
    waited = len(log) - 1 - accuracies.index(max(accuracies))
    return len(log) >= training.epochs or bool(training.patience and waited >= training.patience)


def _number(loss: float, epoch: int, training: Training) -> float:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} in epoch {epoch + 1}: training.learning_rate {training.learning_rate:g} is too high; "
            "lower it, or raise training.warmup_epochs, and choose another --run"
        )
    return float(loss)


def _after(state: State, entry: dict[str, Any], learner: keras.Model, judge: Judge, training: Training) -> State:
    """Return the state after one more epoch."""
    best = max((one["validation_accuracy"] for one in state.log), default=-1.0)
    keeps = training.keep == "last" or entry["validation_accuracy"] > best
    return State(
        [*state.log, entry],
        checkpoints.values(learner.variables),
        checkpoints.values(learner.optimizer.variables),
        judge.network.get_weights() if keeps else state.kept,
    )


def _finish(run: Path, network: keras.Model, state: State) -> None:
    """Write the kept weights; the checkpoint has done its duty."""
    checkpoints.assign(network.weights, state.kept, run / CHECKPOINT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        network.save_weights(path)
        replace_file(run / WEIGHTS, path.read_bytes())
    (run / CHECKPOINT).unlink()


def _kept_network(run: Path, config: Config, classes: int) -> keras.Model:
    network = float32_network(config, classes)
    try:
        network.load_weights(run / WEIGHTS)
    except (ValueError, OSError, KeyError) as error:
        raise unreadable(run / WEIGHTS, error) from None
    return network


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
