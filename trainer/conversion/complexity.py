"""What a network costs: multiply-adds and parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Complexity:
    """Of one face: multiply-adds of convolutions and dense layers. Of the network: parameters.

    The parameters include the running means and variances of batch normalisation, as Keras counts them.
    """

    multiply_adds: int
    parameters: int


def complexity(model: keras.Model) -> Complexity:
    """Count what a Keras network of convolutions, depthwise convolutions and dense layers costs."""
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    total = sum(multiply_adds(layer.kernel.shape, layer.output.shape) for layer in kernels)
    return Complexity(total, int(model.count_params()))


def multiply_adds(kernel: Sequence[int], output: Sequence[int]) -> int:
    """Return the multiply-adds of an operator: each weight of its kernel is used once at each place of its output.

    Args:
        kernel: shape, whatever the order.
        output: shape (batch, …places…, channels).
    """
    return math.prod(int(n) for n in kernel) * math.prod(int(n) for n in output[1:-1])
