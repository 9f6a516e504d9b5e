"""What Home Assistant is told of the node and its cameras: device discovery, Home Assistant 2024.11 or later.

One retained message describes the node as a device with a component for each thing that can be known or done of each
camera; it points at the topics that the daemon publishes anyway.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge.client import LARGEST
from edge.mqtt import Publisher
from edge.settings import Settings

log = logging.getLogger(__name__)

Component = dict[str, Any]
#: The kinds of component a camera can have, and Home Assistant's platform of each.
PLATFORMS = {"emotion": "sensor", "faces": "sensor", "event": "event", "online": "binary_sensor", "pause": "switch"}
#: The key of a component is `<camera>_<kind>`.
KEY = re.compile(rf"[a-z0-9_-]{{1,64}}_({'|'.join(PLATFORMS)})")
#: What Home Assistant says when it has started.
BIRTH = b"online"
#: What is retained is said again to a Home Assistant that starts, but not more often than every so many seconds.
GREETING = 5.0
#: Each switch sends a command with an id of its own.
SWITCH = '{{"id": "homeassistant-{camera}-{{{{ now().timestamp() }}}}", "command": "{{{{ value }}}}"}}'


class HomeAssistant:
    """Announces the node's cameras, again whenever Home Assistant starts, and takes back what is no longer there.

    Args:
        settings: of the node.
        version: of the daemon.
        publisher: sends it.

    Attributes:
        topic: where the node is announced.
    """

    def __init__(self, settings: Settings, version: str, publisher: Publisher) -> None:
        self._settings = settings
        self._version = version
        self._publisher = publisher
        self.topic = f"{settings.homeassistant.prefix}/device/{settings.node}/config"
        self._lock = threading.Lock()
        self._document: dict[str, Any] = {}
        self._greeted = float("-inf")
        if settings.homeassistant.discovery:
            publisher.listen(f"{settings.homeassistant.prefix}/status", self._on_status)
            publisher.listen(self.topic, self._on_earlier)
        else:
            publisher.listen(self.topic, self._on_unwanted)

    def announce(self, labels: Sequence[str]) -> None:
        """Say what there is, with these emotions."""
        with self._lock:
            if self._settings.homeassistant.discovery:
                self._document = discovery(self._settings, labels, self._version)
                self._send(self._document)

    def change(self, settings: Settings, labels: Sequence[str]) -> None:
        """Announce by other settings, whose cameras alone are different."""
        before = json.dumps(self._document).encode()
        with self._lock:
            self._settings = settings
        self.announce(labels)
        if self._document:
            self._take_back(before)

    def _on_status(self, message: MQTTMessage) -> None:
        now = time.monotonic()
        if message.payload == BIRTH and not message.retain and now - self._greeted >= GREETING:
            self._greeted = now
            with self._lock:
                self._send(self._document)

    def _on_earlier(self, message: MQTTMessage) -> None:
        """Take back what an earlier run announced and is no longer there: once, with nothing but its platform."""
        if message.retain and len(message.payload) <= LARGEST:
            self._take_back(bytes(message.payload))

    def _take_back(self, earlier: bytes) -> None:
        with self._lock:
            gone = removed(earlier, self._document)
            if gone:
                log.info("Home Assistant: taken back: %s", ", ".join(sorted(gone)))
                # Before the others: Home Assistant passes over what follows a component that it is still working on.
                self._send({**self._document, "components": {**gone, **self._document["components"]}})
                self._send(self._document)

    def _on_unwanted(self, message: MQTTMessage) -> None:
        """Clear what an earlier run announced, now that nothing is to be: what is retained would stay for ever."""
        if message.retain and message.payload:
            log.info("Home Assistant: the node is taken back")
            self._publisher.clear([self.topic])

    def _send(self, document: dict[str, Any]) -> None:
        self._publisher.set_retained(self.topic, json.dumps(document, separators=(",", ":")).encode())


def discovery(settings: Settings, labels: Sequence[str], version: str) -> dict[str, Any]:
    """Return the discovery message of a node whose model knows these emotions."""
    components: dict[str, Component] = {}
    for camera in settings.cameras:
        for kind, component in _components(settings, camera, labels).items():
            components[f"{camera}_{kind}"] = {
                "platform": PLATFORMS[kind],
                "unique_id": f"emotion-edge/{settings.node}/{camera}/{kind}",
                "qos": 1,
                **component,
            }
    return {
        "device": {
            "identifiers": [f"emotion-edge/{settings.node}"],
            "name": settings.node,
            "manufacturer": "emotion-edge",
            "sw_version": version,
        },
        "origin": {"name": "emotion-edge", "sw_version": version},
        "components": components,
    }


def removed(earlier: bytes, document: dict[str, Any]) -> dict[str, Component]:
    """Return the components of an earlier message that are not in `document`, with nothing but their platform."""
    try:
        keys = json.loads(earlier)["components"].keys()
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}
    found = ((key, KEY.fullmatch(key)) for key in keys if key not in document["components"])
    return {key: {"platform": PLATFORMS[match[1]]} for key, match in found if match}


def _components(settings: Settings, camera: str, labels: Sequence[str]) -> dict[str, Component]:
    """Return what a camera has, by kind; with privacy nothing of single faces."""
    node = f"{settings.mqtt.base}/{settings.node}"
    topic = f"{node}/{camera}"
    state = "{{ value_json.state }}"
    # The camera's connection and its switch are there while it is offline.
    of_node, of_camera = ({"topic": f"{each}/status", "value_template": state} for each in (node, topic))
    with_node = {"availability": [of_node], "availability_mode": "all"}
    with_both = {"availability": [of_node, of_camera], "availability_mode": "all"}
    components: dict[str, Component] = {
        "online": {
            "name": f"{camera} connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{topic}/status",
            "value_template": state,
            "payload_on": "online",
            "payload_off": "offline",
            **with_node,
        }
    }
    if {"pause", "resume"} <= set(settings.commands.allow):
        components["pause"] = {
            "name": f"{camera} paused",
            "state_topic": f"{topic}/status",
            "value_template": "{{ 'pause' if value_json.paused | default(false) else 'resume' }}",
            "command_topic": f"{topic}/set",
            "command_template": SWITCH.format(camera=camera),
            "payload_on": "pause",
            "payload_off": "resume",
            **with_node,
        }
    if settings.privacy == "aggregate":
        return components
    components["emotion"] = {
        "name": f"{camera} emotion",
        "device_class": "enum",
        "options": [*labels, "none"],
        "state_topic": f"{topic}/emotion",
        "value_template": "{{ value_json.emotion }}",
        **with_both,
    }
    components["faces"] = {
        "name": f"{camera} faces in view",
        "state_class": "measurement",
        "state_topic": f"{topic}/emotion",
        "value_template": "{{ value_json.faces }}",
        **with_both,
    }
    components["event"] = {
        "name": f"{camera} face",
        "event_types": ["start", "change", "end"],
        "state_topic": f"{topic}/event",
        "value_template": "{{ dict(value_json, event_type=value_json.type) | tojson }}",
        **with_both,
    }
    return components
