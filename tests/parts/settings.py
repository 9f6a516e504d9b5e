"""Settings of a daemon under test."""

from __future__ import annotations

from typing import Any

from tests.parts import HOST, free_port
from tests.parts.broker import Mosquitto


def settings_for(broker: Mosquitto | None, **cameras: dict[str, Any]) -> dict[str, Any]:
    """Return settings of the node `test` with these cameras, a metrics port of its own, and the broker's address.

    Without a broker the address is one at which nobody listens.
    """
    return {
        "node": "test",
        "cameras": cameras,
        "mqtt": {"host": HOST, "port": broker.port if broker else free_port()},
        "metrics": {"host": HOST, "port": free_port()},
    }
