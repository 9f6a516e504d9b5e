"""The JSON Schemas that ship, as checks."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests.parts.homeassistant import validate_discovery

FORMATS = FormatChecker(["uuid"])


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    """Tell whether a string names a moment with its offset; jsonschema needs one more package to do so itself."""
    return not isinstance(value, str) or datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None


def validate_event(document: dict[str, Any]) -> None:
    """Check a decoded event against `edge/schemas/event-1.json`, formats included.

    Raises:
        jsonschema.ValidationError: it breaks the schema.
    """
    _validator("event").validate(document)


def validate(topic: str, document: Any) -> None:
    """Check a decoded message against the schema for its topic; answers may go to any topic that ends in `answers`.

    Raises:
        jsonschema.ValidationError: it breaks the schema.
    """
    kind = topic.rsplit("/", 1)[-1]
    if kind == "config":
        validate_discovery(document)
    else:
        _validator({"set": "command", "answers": "response"}.get(kind, kind)).validate(document)


def validate_preview(document: Any) -> None:
    """Check what the preview's page was told against `edge/schemas/preview-1.json`.

    Raises:
        jsonschema.ValidationError: it breaks the schema.
    """
    _validator("preview").validate(document)


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = json.loads(resources.files("edge").joinpath(f"schemas/{kind}-1.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FORMATS)
