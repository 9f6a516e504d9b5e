"""Where the network learns: the processor, or a GPU if the backend of Keras has one."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import keras
import numpy as np

from trainer import TrainerError

Device = Literal["auto", "cpu", "gpu"]


class DeviceError(TrainerError):
    """The device asked for is not there."""


def gpus() -> int:
    """Return how many GPUs the backend of Keras can use."""
    if keras.backend.backend() == "jax":
        import jax

        return sum(device.platform != "cpu" for device in jax.devices())
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def require(device: Device) -> None:
    """Check that the device is there.

    Raises:
        DeviceError: it is not.
    """
    if device == "gpu" and not gpus():
        backend = keras.backend.backend()
        raise DeviceError(
            f"training.device: gpu is asked for, and {backend} finds none; install a driver and a {backend} that fit "
            "it, or choose auto or cpu"
        )


def on(device: Device) -> AbstractContextManager[Any]:
    """Return the scope in which a network is built and trained on a device; `auto` takes a GPU where there is one."""
    scope: AbstractContextManager[Any] = nullcontext() if device == "auto" else keras.device(f"{device}:0")
    return scope


def repeatable(seed: int) -> None:
    """Start all random numbers from `seed`, and have the same operations give the same bits every time."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
    else:
        # Keras's own function would import TensorFlow wherever it is installed. Each layer seeds its numbers from here.
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
