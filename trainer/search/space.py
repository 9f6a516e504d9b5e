"""What `emotion-trainer tune` searches: a YAML file, checked against the configuration that it varies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.section import Section
from edge.strict_yaml import StrictYamlError, read
from trainer import TrainerError
from trainer.config import Config, ConfigError, changed, reason
from trainer.training.run_folder import NOT_LEARNED_FROM

SECTIONS = ("architecture", "training", "augmentation")
#: How long a trial takes is decided beforehand, in `budget`: else the search finds that longer is better.
BUDGET_ONLY = {"training.epochs", "training.minutes"}

Value = bool | int | float | str | None


class SearchError(TrainerError):
    """The search cannot be done as asked; the message names file, key and remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Searched(_Part):
    """The values of one key: all from `low` to `high`, evenly or by their logarithm; or some `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Searched:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("give either low and high or choices")
        if self.choices is not None and (self.low, self.high, self.log) != (None, None, False):
            raise ValueError("low, high and log do not go with choices")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError("low must be less than high")
            if self.log and self.low <= 0:
                raise ValueError("a logarithmic range must begin above 0")
        return self

    def ends(self) -> tuple[Value, ...]:
        """Return the values that must be right for all to be: the ends of a range, or every choice."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def contains(self, value: Any) -> bool:
        """Tell whether `value` is one of these."""
        if self.choices is not None:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high  # type: ignore[operator]  # both are set

    def __str__(self) -> str:
        return f"{self.low}…{self.high}" if self.choices is None else " | ".join(map(str, self.choices))


class Pruning(Section):
    """When a trial is given up: its best epoch so far is below the median of the others at the same epoch."""

    trials: int = Field(default=5, ge=1, description="that must have run to their end before any is given up")
    epochs: int = Field(default=2, ge=1, description="of a trial before it is given up")


class SearchSpace(_Part):
    """One search: how long its trials are, when they are given up, what they vary."""

    budget: dict[str, Value] = Field(
        default={}, description="what trials have instead of the configuration's own values; not part of the result"
    )
    pruning: Pruning = Pruning()
    space: dict[str, Searched] = Field(min_length=1)

    def distributions(self, config: Config) -> dict[str, BaseDistribution]:
        """Return what Optuna draws from; whole numbers where the configuration has whole numbers."""
        return {key: _distribution(config, key, searched) for key, searched in self.space.items()}

    def own(self, config: Config) -> dict[str, Value]:
        """Return the values of `config` itself, with which the search begins."""
        return {key: value_of(config, key) for key in self.space}


def load_space(path: Path, config: Config) -> SearchSpace:
    """Read a search space and check that every value in it would make a configuration.

    Raises:
        SearchError: the file is missing, no YAML, or has a wrong key or value.
    """
    try:
        content = read(path)
    except OSError as error:
        raise SearchError(f"{path}: {error.strerror}; name an existing search space with --search") from None
    except UnicodeDecodeError:
        raise SearchError(f"{path}: no text file; name a search space with --search") from None
    except StrictYamlError as error:
        raise SearchError(str(error)) from None
    try:
        space = SearchSpace.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{_where(e['loc'])}: {reason(e)}" for e in error.errors())
        raise SearchError(f"{path}: {mistakes}; configs/trainer/search.yaml shows how it is written") from None
    _check(path, space, config)
    return space


def value_of(config: Config, key: str) -> Any:
    """Return the value at a dotted key, None where its section is left out."""
    value: Any = config.model_dump(mode="json")
    for name in key.split("."):
        value = None if value is None else value[name]
    return value


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "file"


def _check(path: Path, space: SearchSpace, config: Config) -> None:
    for key, searched in space.space.items():
        if key.split(".")[0] not in SECTIONS or key in BUDGET_ONLY:
            raise SearchError(
                f"{path}: space: {key} cannot be searched; only keys of {', '.join(SECTIONS)}, "
                f"without {' and '.join(sorted(BUDGET_ONLY))}, can"
            )
        if _not_felt(key):
            raise SearchError(
                f"{path}: space: {key} cannot be searched: trials are judged without it; emotion-trainer adjustments "
                "helps to choose logit_… afterwards"
            )
        if key in space.budget:
            raise SearchError(f"{path}: {key} is in budget and in space; leave it in one of them")
        for value in searched.ends():
            _valid(path, "space", config, {key: value})
        if not searched.contains(value_of(config, key)):
            raise SearchError(
                f"{path}: space: {key}: {value_of(config, key)}, the configuration's own value, is not in {searched}; "
                "add it, because the search begins there"
            )
    _valid(path, "budget", config, space.budget)


def _not_felt(key: str) -> bool:
    """Tell whether the accuracy that a trial reports does not depend on a key."""
    section, _, name = key.partition(".")
    return section == "training" and name.split(".")[0] in NOT_LEARNED_FROM["training"]


def _valid(path: Path, part: str, config: Config, changes: Mapping[str, Value]) -> None:
    try:
        changed(config, changes)
    except ConfigError as error:
        raise SearchError(f"{path}: {part}: {error}") from None


def _distribution(config: Config, key: str, searched: Searched) -> BaseDistribution:
    if searched.choices is not None:
        return CategoricalDistribution(searched.choices)
    low, high = (value_of(changed(config, {key: end}), key) for end in searched.ends())
    kind = IntDistribution if isinstance(low, int) else FloatDistribution
    return kind(low, high, log=searched.log)
