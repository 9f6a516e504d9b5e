"""The one place that knows which TFLite runtime is installed.

`ai-edge-litert` is the default; `tflite-runtime`, its predecessor, is the extra `legacy` for machines that are
pinned to Python ≤ 3.11 and NumPy < 2.
"""

from __future__ import annotations

import importlib
import os
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


class Network:
    """One TFLite network on one thread. Not to be shared between threads (tensorflow#54282).

    Args:
        content: the bytes of a `.tflite` file; what follows the flatbuffer is ignored.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter = load_runtime()[1](model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def __call__(self, value: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Run one inference; `value` has the shape and dtype of the only input. Returns copies of the outputs."""
        self._interpreter.set_tensor(self.inputs[0]["index"], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"]) for output in self.outputs]
