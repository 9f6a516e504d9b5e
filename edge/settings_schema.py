"""The JSON Schema of the settings file, for editors: `emotion-edge schema`, and `edge/schemas/settings.json`.

`python -m edge.settings_schema` writes that file anew.
"""

from __future__ import annotations

import inspect
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge import settings
from edge.settings import Settings

FILE = "schemas/settings.json"
CORNER = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": 0, "maximum": 1}}
POLYGONS = {"type": "array", "items": {"type": "array", "minItems": 3, "items": CORNER}}
PLACES = [
    {"type": "object", "properties": {place: {"type": "string"}}, "required": [place], "additionalProperties": False}
    for place in ("file", "credential")
]
#: A secret is text, or says where it is; see `edge.secret`.
SECRET = {"anyOf": [{"type": "string", "minLength": 1}, *PLACES, {"type": "null"}]}
ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


def settings_schema() -> dict[str, Any]:
    """Return the schema, made from the classes of `edge.settings`; it accepts what they do, or more."""
    schema = Settings.model_json_schema()
    sections = {**schema["$defs"], "Settings": schema}
    for name, section in sections.items():
        kind = getattr(settings, name)
        texts = _texts(kind)
        section["description"] = (kind.__doc__ or "").split("\n")[0]
        for key, field in section["properties"].items():
            field.pop("title", None)
            if texts.get(key):
                field["description"] = texts[key]
        section.pop("title", None)
        _widen(section["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "emotion-edge settings", **schema}


def text() -> str:
    """Return the schema as it is written to its file."""
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"


def shipped() -> str:
    """Return the schema that ships."""
    return resources.files("edge").joinpath(FILE).read_text(encoding="utf-8")


def _widen(properties: dict[str, Any]) -> None:
    """Let in what validators bring into form: indices of webcams, polygons, places of secrets, older versions."""
    for name, field in properties.items():
        about = {key: field[key] for key in ("description",) if key in field}
        if name in ("password", "token"):
            properties[name] = {**SECRET, **about}
        elif name in ("zones", "masks"):
            properties[name] = {**POLYGONS, "default": [], **about}
        elif "patternProperties" in field:
            field["additionalProperties"] = False
        elif name == "source":
            field["type"] = ["string", "integer"]
        elif name == "model" and field.get("default"):
            del field["default"]  # it is where this package happens to be installed


def _texts(kind: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring of a class says of its attributes."""
    found = {name: " ".join(text.split()) for name, text in ATTRIBUTE.findall(inspect.cleandoc(kind.__doc__ or ""))}
    return {name: text[0].upper() + text[1:] for name, text in found.items() if text}


if __name__ == "__main__":
    Path(__file__).with_name("schemas").joinpath("settings.json").write_text(text(), encoding="utf-8")
