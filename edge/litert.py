"""The one place that knows which TFLite runtime is installed.

`ai-edge-litert` is the default; `tflite-runtime`, its predecessor, is the extra `legacy` for machines that are
pinned to Python ≤ 3.11 and NumPy < 2.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

RUNTIMES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
RUNTIME_VARIABLE = "EMOTION_EDGE_RUNTIME"


class RuntimeMissingError(RuntimeError):
    """No TFLite runtime can be imported."""


def load_runtime() -> tuple[str, Callable[..., Any]]:
    """Return the name of the runtime in use and its `Interpreter` class.

    `$EMOTION_EDGE_RUNTIME` (`ai-edge-litert` or `tflite-runtime`) chooses one; otherwise the first that imports.

    Raises:
        RuntimeMissingError: the chosen runtime, or every runtime, fails to import.
    """
    chosen = os.environ.get(RUNTIME_VARIABLE)
    if chosen and chosen not in RUNTIMES:
        raise RuntimeMissingError(f"{RUNTIME_VARIABLE}={chosen}: use one of {', '.join(RUNTIMES)}")
    failures = []
    for name in [chosen] if chosen else list(RUNTIMES):
        try:
            return name, importlib.import_module(RUNTIMES[name]).Interpreter
        except (ImportError, AttributeError) as error:  # NumPy 2 breaks tflite-runtime with an AttributeError
            failures.append(f"{name}: {error}")
    raise RuntimeMissingError(f"no TFLite runtime ({'; '.join(failures)}): pip install ai-edge-litert")


class _HushOnce:
    """Drops what the process writes to stderr, the first time it is entered.

    LiteRT says once, past Python, that it uses XNNPACK; a command's stderr is for what its user can mend.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._kept: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._done:
            return
        self._done = True
        sys.stderr.flush()
        self._kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            os.dup2(self._kept, 2)
            os.close(self._kept)
            self._kept = None
        self._lock.release()


_FIRST_LINE_HUSHED = _HushOnce()


class Network:
    """One TFLite network on one thread. Not to be shared between threads (tensorflow#54282).

    Args:
        content: the bytes of a `.tflite` file; what follows the flatbuffer is ignored.
    """

    def __init__(self, content: bytes) -> None:
        interpreter = load_runtime()[1]
        with _FIRST_LINE_HUSHED:
            self._interpreter = interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def __call__(self, value: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Run one inference; `value` has the shape and dtype of the only input. Returns copies of the outputs."""
        self._interpreter.set_tensor(self.inputs[0]["index"], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"]) for output in self.outputs]
