"""How steps are taken: learning rate over time, optimisers, and the moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from trainer.config import Training

SGD_MOMENTUM = 0.9
#: Neither scales nor offsets are decayed: small ones make nothing simpler.
UNDECAYED = ["gamma", "beta", "bias"]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras has no types
    """Linear warm-up, then a cosine (arXiv:1608.03983) or a line to zero, or the same to the end."""

    def __init__(self, training: Training, steps: int) -> None:
        super().__init__()
        self._training = training
        self._warmup = max(training.warmup_epochs * steps, 1.0)
        self._steps = training.epochs * steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, a scalar tensor."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / self._warmup
        share = ops.clip((step - self._warmup) / max(self._steps - self._warmup, 1.0), 0.0, 1.0)
        if self._training.schedule == "cosine":
            falling = 0.5 * (1 + ops.cos(math.pi * share))
        elif self._training.schedule == "linear":
            falling = 1 - share
        else:
            falling = ops.ones_like(share)
        return self._training.learning_rate * ops.minimum(rising, falling)


class _Averaging:
    """Lets the moving average begin short: with a long one, the first weights of all would count for very long.

    The momentum of step t is at most (1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage.
    """

    iterations: Any
    _highest: float

    @property
    def ema_momentum(self) -> Any:
        step = ops.cast(self.iterations, "float32")
        return ops.minimum(self._highest, (1 + step) / (10 + step))

    @ema_momentum.setter
    def ema_momentum(self, momentum: float) -> None:
        self._highest = momentum

    def finalize_variable_values(self, var_list: Any) -> None:
        """Leave the weights as they are: Keras would take their average instead at the end of every `fit`."""

    def take_average(self, variables: Any) -> None:
        """Let the weights be their moving average, if there is one."""
        super().finalize_variable_values(variables)  # type: ignore[misc]  # of Keras's own optimiser


class AdamW(_Averaging, keras.optimizers.AdamW):  # type: ignore[misc]
    """Adam with decoupled weight decay (arXiv:1711.05101)."""


class SGD(_Averaging, keras.optimizers.SGD):  # type: ignore[misc]
    """Stochastic gradient descent with Nesterov's momentum; the weight decay is decoupled."""


class Adam(_Averaging, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam (arXiv:1412.6980), its weight decay the gradient of a penalty on squared weights."""

    def __init__(self, *arguments: Any, penalty: float, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._penalty = penalty

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable, its penalty included."""
        if self._penalty and not any(name in variable.name for name in UNDECAYED):
            gradient = gradient + ops.cast(self._penalty, gradient.dtype) * ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)


def optimiser(training: Training, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimiser of a configuration; `steps` is the number of batches of an epoch."""
    schedule = Schedule(training, steps)
    average: dict[str, Any] = {}
    if training.average_momentum:
        average = {"use_ema": True, "ema_momentum": training.average_momentum}
    if training.optimizer == "adam":
        return Adam(schedule, penalty=training.weight_decay, **average)
    if training.optimizer == "sgd":
        decay = training.weight_decay or None
        made = SGD(schedule, momentum=SGD_MOMENTUM, nesterov=True, weight_decay=decay, **average)
    else:
        made = AdamW(schedule, weight_decay=training.weight_decay, **average)
    made.exclude_from_weight_decay(var_names=UNDECAYED)
    return made
