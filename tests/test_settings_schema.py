"""The JSON Schema of the settings file, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from edge.cli import cli
from edge.settings_schema import settings_schema, shipped, text
from tests.parts.settings import settings_for

ROOT = Path(__file__).parents[1]
VALIDATOR = Draft202012Validator(json.loads(shipped()))
CAMERA: dict[str, Any] = {"cameras": {"door": {"source": 0}}}


def test_what_ships_is_made_from_the_classes() -> None:
    assert shipped() == text(), "python -m edge.settings_schema"


def test_command_prints_it() -> None:
    assert CliRunner().invoke(cli, ["schema"]).output == shipped()


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(settings_schema())


def test_example_is_good_and_names_the_schema() -> None:
    path = ROOT / "configs" / "edge.yaml"
    content = path.read_text()
    VALIDATOR.validate(yaml.safe_load(content))
    (line,) = [line for line in content.splitlines() if "$schema=" in line]
    assert (path.parent / line.split("$schema=")[1]).resolve() == ROOT / "edge" / "schemas" / "settings.json"


@pytest.mark.parametrize(
    "content",
    [
        CAMERA,
        {**CAMERA, "mqtt": {"username": "u", "password": {"file": "x"}}, "metrics": {"token": "${TOKEN}"}},
        {"cameras": {"door": {"source": "a/", "zones": [[[0, 0], [1, 0], [1, 1]]], "rotation": 90}}},
        {**settings_for(None, cam={"source": "rtsp://a/b"}), "version": 2},
    ],
)
def test_good_settings_are_good(content: dict[str, Any]) -> None:
    VALIDATOR.validate(content)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {**CAMERA, "colour": "red"},
        {"cameras": {"door": {"source": 0, "rate": 5}}},
        {"cameras": {"Front Door": {"source": 0}}},
        {"cameras": {"door": {"source": 0, "rotation": 45}}},
        {"cameras": {"door": {"source": 0, "zones": [[[0, 0], [2, 0]]]}}},
        {**CAMERA, "log": {"level": "loud"}},
        {**CAMERA, "mqtt": {"password": {"path": "x"}}},
        {**CAMERA, "commands": {"allow": ["dance"]}},
    ],
)
def test_mistakes_are_seen_by_an_editor_too(content: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(content)


def test_keys_are_explained() -> None:
    camera = settings_schema()["$defs"]["CameraSettings"]["properties"]
    assert camera["max_fps"]["description"].startswith("Frames a second that are analysed, at most")
    assert [name for name, field in camera.items() if "description" not in field] == []
