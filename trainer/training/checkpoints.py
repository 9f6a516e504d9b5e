"""All that a training needs to go on exactly where it was, in one file that is replaced in one step."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from trainer import first_line
from trainer.files import DAMAGED, cannot_write, discard, replace_file
from trainer.quiet import silence
from trainer.training.run_folder import CheckpointError, unreadable

Arrays = list[npt.NDArray[Any]]
Shapes = list[tuple[int, ...]]

#: Behind these layers the first channels are not the first of those before.
MIXING = (keras.layers.Flatten, keras.layers.Concatenate)


@dataclass(frozen=True)
class State:
    """A training after some epochs.

    Attributes:
        log: the epochs so far, as in the run's log; they tell the best accuracy and how long ago it was.
        model: every variable of the network, the seeds of its dropout included.
        optimizer: every variable of the optimiser, the moving average of the weights included.
        kept: the weights of the epoch that is kept, batch-normalisation statistics included.
    """

    log: list[dict[str, Any]] = field(default_factory=list)
    model: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    kept: Arrays = field(default_factory=list)


GROUPS = ("model", "optimizer", "kept")


def save(path: Path, state: State) -> None:
    """Write a checkpoint.

    Raises:
        WriteError: it cannot be written; the one before it is as it was.
    """
    named = {f"{group}/{number:05d}": array for group in GROUPS for number, array in enumerate(getattr(state, group))}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, log=np.array(json.dumps(state.log)), **named)
    replace_file(path, buffer.getvalue())


def load(path: Path) -> State:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            log = json.loads(str(archive["log"]))
            groups = {
                group: [archive[name] for name in sorted(archive.files) if name.startswith(f"{group}/")]
                for group in GROUPS
            }
    except DAMAGED as error:
        raise unreadable(path, error) from None
    return State(log, **groups)


def values(variables: list[keras.Variable]) -> Arrays:
    """Return copies of the values of variables."""
    return [np.array(variable) for variable in variables]


def assign(variables: list[keras.Variable], arrays: Arrays, path: Path) -> None:
    """Give variables the values that `path` holds.

    Raises:
        CheckpointError: they are of another network.
    """
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise CheckpointError(f"{path}: is of another architecture or optimiser; remove {path.parent} to start again")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def load_network(path: Path) -> keras.Model:
    """Read a network from a `.keras` file, whichever backend wrote it.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; name a .keras file")
    try:
        return keras.models.load_model(path, compile=False)
    except DAMAGED as error:
        raise CheckpointError(f"{path}: no Keras model ({first_line(error)}); name a .keras file") from None


def save_network(network: keras.Model, path: Path) -> None:
    """Write a network as a `.keras` file.

    Raises:
        WriteError: it cannot be written; what was there is as it was.
    """
    partial = path.with_name(f".partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with silence():  # Keras imports TensorFlow here if it finds it, whatever it runs on
            network.save(partial)
        os.replace(partial, path)
    except OSError as error:
        discard(partial)
        raise cannot_write(path, error) from None


def copy_weights(path: Path, source: keras.Model, target: keras.Model, *, narrower: bool = False) -> None:
    """Give `target` the weights of `source`, which was read from `path`.

    Args:
        path: for the message.
        source: has the weights.
        target: gets them.
        narrower: `target` may have fewer channels inside; it gets the first of each layer, from which training goes on
            better than from nothing. It may have fewer layers too: it gets the first, and its last one stays as it is.
            Not where channels are laid out anew on the way, by flattening or side by side: the first would be others.

    Raises:
        CheckpointError: the layers differ; the message names the first that does.
    """
    mixes = any(isinstance(layer, MIXING) for layer in target.layers)
    narrower = narrower and _ends(source) == _ends(target) and not mixes
    theirs, ours = _shapes(source), _shapes(target)
    if narrower and len(ours) < len(theirs):
        theirs, ours = theirs[: len(ours) - 1], ours[:-1]
    for number, (found, wanted) in enumerate(zip(theirs, ours, strict=False)):
        if found[1:] != wanted[1:] and not (narrower and _has_channels(found[1], wanted[1])):
            raise CheckpointError(
                f"{path}: layer {found[0]} has weights {found[1]}, and the architecture wants {wanted[1]} in "
                f"{wanted[0]}, its layer {number + 1} with weights; name a file of the same architecture, input and "
                "classes"
            )
    if len(theirs) != len(ours):
        raise CheckpointError(
            f"{path}: has {len(theirs)} layers with weights, and the architecture {len(ours)}; name a file of the same"
        )
    count, weights = sum(len(shapes) for _, shapes in ours), target.get_weights()
    for number, found in enumerate(source.get_weights()[:count]):
        weights[number] = found[tuple(map(slice, weights[number].shape))]
    target.set_weights(weights)


def _ends(model: keras.Model) -> tuple[int, int]:
    """Return the number of colours and of classes."""
    return model.input_shape[-1], model.output_shape[-1]


def _has_channels(found: Shapes, wanted: Shapes) -> bool:
    """Tell whether weights have the channels wanted, their last two dimensions, or more, and are the same else."""
    return len(found) == len(wanted) and all(
        len(one) == len(other) and one[:-2] == other[:-2] and all(np.greater_equal(one, other))
        for one, other in zip(found, wanted, strict=True)
    )


def _shapes(model: keras.Model) -> list[tuple[str, Shapes]]:
    """Return name and shapes of the weights of each layer that has any."""
    return [(layer.name, [tuple(w.shape) for w in layer.weights]) for layer in model.layers if layer.weights]
