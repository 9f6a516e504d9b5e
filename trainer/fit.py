"""Learns the weights: batches, schedule, checkpoints, the choice on validation."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer import TrainerError
from trainer.architectures import build
from trainer.augment import plain_crops, random_crop
from trainer.config import Config
from trainer.datasets import Samples

MEAN = 128.0
DEVIATION = 128.0
CHECKPOINT = "checkpoint.keras"
BEST = "best.weights.h5"
LOG = "log.jsonl"
RECORD = "config.json"
#: Keys of the configuration that the weights do not depend on.
AFTER_TRAINING = {"variant", "quantisation"}


class CheckpointError(TrainerError):
    """A checkpoint does not belong to this configuration; the message says what to do."""


def normalise(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn uint8 crops (n, size, size), or RGB with 3 channels, into float32 (n, size, size, channels) in -1…1."""
    inputs = (crops.astype(np.float32) - MEAN) / DEVIATION
    return inputs[..., None] if inputs.ndim == 3 else inputs


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """Augmented batches; what batch i of epoch e holds depends only on the seed, e and i, so that runs resume."""

    def __init__(self, samples: Samples, config: Config, epoch: int) -> None:
        super().__init__(workers=1)
        self._samples, self._config, self._epoch = samples, config, epoch
        self._targets = samples.faces.distributions

    def __len__(self) -> int:
        return len(self._samples.faces) // self._config.training.batch_size or 1

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        order = np.random.default_rng([self._config.seed, self._epoch]).permutation(len(self._samples.faces))
        size = self._config.training.batch_size
        rng = np.random.default_rng([self._config.seed, self._epoch, index])
        rows = order[index * size : (index + 1) * size]
        rule = self._config.crop.rule()
        crops = [
            random_crop(self._samples.faces.images[r], self._samples.landmarks[r], rule, self._config.augmentation, rng)
            for r in rows
        ]
        return normalise(np.stack(crops)), self._targets[rows]

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's batches."""
        self._epoch += 1


class Warmup(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear warm-up, then a cosine to zero (arXiv:1608.03983)."""

    def __init__(self, peak: float, warmup: float, steps: int) -> None:
        super().__init__()
        self._peak, self._warmup, self._steps = peak, max(warmup, 1.0), steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, a scalar tensor."""
        step = keras.ops.cast(step, "float32")
        rising = (step + 1) / self._warmup
        share = (step - self._warmup) / max(self._steps - self._warmup, 1.0)
        falling = 0.5 * (1 + keras.ops.cos(math.pi * keras.ops.clip(share, 0.0, 1.0)))
        return self._peak * keras.ops.minimum(rising, falling)

    def get_config(self) -> dict[str, float]:
        """Return the constructor's arguments, for the checkpoint."""
        return {"peak": self._peak, "warmup": self._warmup, "steps": self._steps}


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """After each epoch: judge the averaged weights on validation, keep the best, write log and checkpoint.

    The checkpoint holds the raw weights with the optimiser's state and is replaced in one step, so that a run killed
    at any time resumes from its last epoch.
    """

    def __init__(
        self, run: Path, validation: Samples, config: Config, after_epoch: Callable[[int, float], None] | None
    ) -> None:
        super().__init__()
        self._run, self._config, self._after_epoch = run, config, after_epoch
        self._crops = normalise(plain_crops(validation.faces.images, validation.landmarks, config.crop.rule()))
        self._truth = validation.faces.truth()
        self._best = max((entry["validation_accuracy"] for entry in read_log(run)), default=-1.0)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
        )

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Show the progress bar."""
        self._progress.start()
        self._task = self._progress.add_task("training", total=self.params["steps"])

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Take the progress bar away."""
        self._progress.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Start the bar again."""
        text = f"epoch {epoch + 1} of {self._config.training.epochs}"
        self._progress.reset(self._task, description=text)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Move the bar."""
        self._progress.update(self._task, advance=1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge, keep the best, write log and checkpoint."""
        raw = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        logits = self.model.predict(self._crops, batch_size=512, verbose=0)
        accuracy = float((logits.argmax(axis=1) == self._truth).mean())
        if accuracy > self._best:
            self._best = accuracy
            _replace(self._run / BEST, self.model.save_weights)
        self.model.set_weights(raw)
        entry = {"epoch": epoch + 1, "loss": round(float((logs or {})["loss"]), 5), "validation_accuracy": accuracy}
        with (self._run / LOG).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        _replace(self._run / CHECKPOINT, self.model.save)
        self._progress.console.print(f"epoch {epoch + 1}: loss {entry['loss']:.4f}, validation {accuracy:.4f}")
        if self._after_epoch:
            self._after_epoch(epoch + 1, accuracy)


def fit(
    train: Samples,
    validation: Samples,
    config: Config,
    run: Path,
    after_epoch: Callable[[int, float], None] | None = None,
) -> keras.Model:
    """Train in the folder `run`, resuming what lies there, and return the float32 network with the best weights.

    A run whose epochs are all done is not trained again.

    Args:
        train: what is learned from.
        validation: what the best epoch is chosen on.
        config: the run's configuration.
        run: folder of log and checkpoints.
        after_epoch: called after each epoch trained now with its number, from 1, and the validation accuracy, a
            fraction; an exception it raises ends the training.

    Raises:
        CheckpointError: what lies in `run` is of another configuration or unreadable.
    """
    record(run, config)
    if len(read_log(run)) < config.training.epochs or not (run / BEST).is_file():
        _train(train, validation, config, run, after_epoch)
    # Rebuilt in float32, whatever the precision of the training: this is what gets evaluated and quantised.
    keras.mixed_precision.set_global_policy("float32")
    final = build(config.architecture, config.crop.shape(), len(train.faces.labels))
    try:
        final.load_weights(run / BEST)
    except (ValueError, OSError, KeyError) as error:
        raise _unreadable(run / BEST, error) from None
    return final


def record(run: Path, config: Config) -> None:
    """Record the configuration in `run`, or check that it is the one recorded there.

    Keys that a recorded configuration lacks count as their defaults; what is used only after the training may differ.

    Raises:
        CheckpointError: it is another one, or unreadable.
    """
    run.mkdir(parents=True, exist_ok=True)
    record = run / RECORD
    if record.is_file():
        try:
            recorded = Config.model_validate_json(record.read_text())
        except ValidationError as error:
            raise _unreadable(record, error) from None
        if recorded.model_dump(exclude=AFTER_TRAINING) != config.model_dump(exclude=AFTER_TRAINING):
            raise CheckpointError(f"{run}: was trained with another configuration; choose another --run or remove it")
    record.write_text(config.model_dump_json(indent=2) + "\n")


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the epochs recorded in `run`, in order.

    Raises:
        CheckpointError: the log is damaged.
    """
    path = run / LOG
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except ValueError as error:
        raise _unreadable(path, error) from None


def _train(
    train: Samples,
    validation: Samples,
    config: Config,
    run: Path,
    after_epoch: Callable[[int, float], None] | None,
) -> None:
    keras.utils.set_random_seed(config.seed)
    batches = Batches(train, config, epoch=0)
    resumed = (run / CHECKPOINT).is_file()
    model = _resumed(run, config) if resumed else _fresh(config, len(train.faces.labels), steps=len(batches))
    # The log is written before the checkpoint: after a kill between the two it is one epoch ahead.
    done = int(model.optimizer.iterations) // len(batches)
    lines = [json.dumps(entry) + "\n" for entry in read_log(run)[:done]]
    (run / LOG).write_text("".join(lines))
    model.fit(
        Batches(train, config, epoch=done),
        epochs=config.training.epochs,
        initial_epoch=done,
        shuffle=False,
        verbose=0,
        callbacks=[Keeper(run, validation, config, after_epoch)],
    )


def _fresh(config: Config, classes: int, steps: int) -> keras.Model:
    training = config.training
    keras.mixed_precision.set_global_policy(training.precision)
    model = build(config.architecture, config.crop.shape(), classes)
    schedule = Warmup(training.learning_rate, training.warmup_epochs * steps, training.epochs * steps)
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=training.weight_decay, use_ema=True, ema_momentum=training.average_momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    return model


def _resumed(run: Path, config: Config) -> keras.Model:
    keras.mixed_precision.set_global_policy(config.training.precision)
    try:
        return keras.models.load_model(run / CHECKPOINT, custom_objects={"Warmup": Warmup})
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise _unreadable(run / CHECKPOINT, error) from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(f"{path}: unreadable ({reason}); remove {path.parent} to start again")


def _replace(path: Path, save: Any) -> None:
    partial = path.with_name("partial." + path.name.split(".", 1)[1])
    save(partial)
    shutil.move(partial, path)
