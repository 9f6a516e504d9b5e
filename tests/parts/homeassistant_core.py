"""Home Assistant with its MQTT integration and nothing else; run by an environment of its own.

`python homeassistant_core.py FOLDER BROKER_PORT HTTP_PORT`: for each line on stdin, an action and an entity such as
`switch.turn_on switch.hall_paused`, it calls that action; after it, and after an empty line, it answers with a line of
JSON: the state of each entity that came by MQTT, with its attributes.
"""

# Types come from Home Assistant, which is not installed where types are checked.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import MappingProxyType

from homeassistant.bootstrap import async_setup_hass
from homeassistant.config_entries import SOURCE_USER, ConfigEntry
from homeassistant.const import ATTR_ENTITY_ID
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry
from homeassistant.runner import RuntimeConfig


async def answer(folder: Path, broker: int, http: int) -> None:
    """Answer until stdin ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.yaml").write_text(f"http: {{server_host: 127.0.0.1, server_port: {http}}}\n")
    home = await async_setup_hass(RuntimeConfig(config_dir=str(folder), skip_pip=True, safe_mode=False))
    await home.async_start()
    if not home.config_entries.async_entries("mqtt"):
        await home.config_entries.async_add(entry(broker))
    print("ready", flush=True)
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        if line.strip():
            action, entity = line.split()
            await home.services.async_call(*action.split("."), {ATTR_ENTITY_ID: entity}, blocking=True)
        print(json.dumps(states(home)), flush=True)
    await home.async_stop()


def entry(broker: int) -> ConfigEntry:
    """Return what a user enters when adding the integration: the broker's address."""
    return ConfigEntry(
        domain="mqtt",
        title="broker",
        data={"broker": "127.0.0.1", "port": broker},
        options={},
        version=1,
        minor_version=2,
        source=SOURCE_USER,
        unique_id=None,
        discovery_keys=MappingProxyType({}),
        subentries_data=(),
    )


def states(home: HomeAssistant) -> dict[str, dict[str, object]]:
    """Return state and attributes of each entity of the MQTT integration, by its name."""
    entities = entity_registry.async_get(home).entities.values()
    found = (home.states.get(each.entity_id) for each in entities if each.platform == "mqtt")
    return {each.entity_id: {"state": each.state, **each.attributes} for each in found if each is not None}


asyncio.run(answer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
