"""What the sections of a YAML file have in common."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator


class Section(BaseModel):
    """A section whose keys are all known, and whose numbers are numbers: for Python `true` is 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _not_true_for_one(cls, value: object, info: ValidationInfo) -> object:
        if _holds_truth(value) and _is_number(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("must be a number, not true or false")
        return value


def first_mistake(error: ValidationError) -> str:
    """Say what is wrong, in the words of who checks it."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _holds_truth(value: object) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth, value)))


def _is_number(annotation: object) -> bool:
    """Tell whether a type, or a part of it, is a number; a choice among numbers is one."""
    parts = get_args(annotation)
    if any(part is bool or isinstance(part, bool) for part in parts):
        return False
    return annotation in (int, float) or any(isinstance(part, int | float) or _is_number(part) for part in parts)
