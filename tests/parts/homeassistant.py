"""What Home Assistant takes for device discovery, as a JSON Schema.

Written after Home Assistant 2026.2.3: `DEVICE_DISCOVERY_SCHEMA` in `homeassistant/components/mqtt/schemas.py` and the
`DISCOVERY_SCHEMA` of `sensor.py`, `binary_sensor.py`, `event.py` and `switch.py` beside it. Device discovery came with
2024.11. Only the keys that the daemon uses are known here, so that a misspelt one, which Home Assistant would pass over
in silence, is a mistake.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

TEXT = {"type": "string", "minLength": 1}
#: Without wildcards, control characters and empty levels.
TOPIC = {"type": "string", "pattern": r"^[^+#/\x00-\x1f\x7f-\x9f]+(/[^+#/\x00-\x1f\x7f-\x9f]+)*$", "maxLength": 65535}
ANY_ENTITY = {
    "platform": TEXT,
    "unique_id": TEXT,
    "name": TEXT,
    "entity_category": {"enum": ["config", "diagnostic"]},
    "qos": {"enum": [0, 1, 2]},
    "state_topic": TOPIC,
    "value_template": TEXT,
    "availability_mode": {"enum": ["all", "any", "latest"]},
    "availability": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["topic"],
            "properties": {
                "topic": TOPIC,
                "value_template": TEXT,
                "payload_available": TEXT,
                "payload_not_available": TEXT,
            },
            "additionalProperties": False,
        },
    },
}


def _entity(platform: str, required: list[str], **properties: Any) -> dict[str, Any]:
    """Return the schema of an entity; one that is taken back has its platform only."""
    whole = {
        "required": ["platform", "unique_id", *required],
        "properties": {**ANY_ENTITY, **properties},
        "additionalProperties": False,
    }
    return {
        "if": {"properties": {"platform": {"const": platform}}, "minProperties": 2},
        "then": whole,
    }


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers"],
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                "name": TEXT,
                "manufacturer": TEXT,
                "sw_version": TEXT,
            },
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": TEXT, "sw_version": TEXT},
            "additionalProperties": False,
        },
        "components": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["platform"],
                "properties": {"platform": {"enum": ["sensor", "binary_sensor", "event", "switch"]}},
                "allOf": [
                    _entity(
                        "sensor",
                        ["state_topic"],
                        device_class={"const": "enum"},
                        options={"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
                        state_class={"enum": ["measurement", "total", "total_increasing"]},
                    ),
                    {
                        # `validate_sensor_state_and_device_class_config`
                        "if": {"required": ["options"]},
                        "then": {
                            "required": ["device_class"],
                            "properties": {"device_class": {"const": "enum"}, "state_class": False},
                        },
                    },
                    _entity(
                        "binary_sensor",
                        ["state_topic"],
                        device_class={"const": "connectivity"},
                        payload_on=TEXT,
                        payload_off=TEXT,
                    ),
                    _entity(
                        "event",
                        ["state_topic", "event_types"],
                        event_types={"type": "array", "items": TEXT, "minItems": 1},
                    ),
                    _entity(
                        "switch",
                        ["command_topic"],
                        command_topic=TOPIC,
                        command_template=TEXT,
                        payload_on=TEXT,
                        payload_off=TEXT,
                    ),
                ],
            },
        },
    },
}
Draft202012Validator.check_schema(SCHEMA)


def validate_discovery(document: Any) -> None:
    """Check a decoded discovery message.

    Raises:
        jsonschema.ValidationError: Home Assistant would not take it, or passes something over.
    """
    Draft202012Validator(SCHEMA).validate(document)
