"""Loads Keras, and keeps its backends' own messages off the terminal."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from trainer import TrainerError

#: Of Keras, the default first.
BACKENDS = ("tensorflow", "jax")


class BackendError(TrainerError):
    """Keras cannot run on the backend asked for."""


@contextmanager
def silence() -> Iterator[None]:
    """Drop what Python prints and what C++ code writes to file descriptors 1 and 2, past `sys.stderr`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def load_keras(*, any_backend: bool = False) -> None:
    """Import keras without the dozen lines it greets with.

    Args:
        any_backend: take the one that `KERAS_BACKEND` names, which is enough for training. Otherwise it is TensorFlow,
            the only one that can write `.tflite`.

    Raises:
        BackendError: the backend is unknown or not installed.
    """
    backend = os.environ.get("KERAS_BACKEND", BACKENDS[0]) if any_backend else BACKENDS[0]
    if backend not in BACKENDS:
        raise BackendError(f"KERAS_BACKEND={backend}: choose one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        raise BackendError(f"{backend}, on which Keras is to run, is not installed: pip install {backend}")
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silence():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")  # many networks in one process are meant, whatever it thinks of that
            tf.config.list_physical_devices()  # looks for a GPU now, and complains now if there is none
