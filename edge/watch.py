"""`emotion-edge watch`: the events of a node or of all nodes, in the terminal."""

from __future__ import annotations

import json
import os
import queue
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.demo import event_line
from edge.events import decode_event
from edge.mqtt import ANSWER_TIMEOUT, CONNECT_TIMEOUT, connection_failure, tls_context
from edge.outbox_commands import config_option
from edge.settings import MqttSettings, load_settings

COLOURS = {"start": "green", "change": "yellow", "end": "blue"}
#: Events whose ids are remembered, so that one that comes twice is shown once.
REMEMBERED = 10_000
#: Seconds between rounds over the brokers of the list.
PAUSE = 1.0


class WatchError(RuntimeError):
    """The broker cannot be reached or refuses us; the message says why."""


@click.command()
@config_option
@click.option("--node", "-n", help="Another node than that of the settings.")
@click.option("--all", "every", is_flag=True, help="Every node at the broker.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as it was published.")
def watch(config: Path, node: str | None, every: bool, as_json: bool) -> None:
    """Follow the events of a node or a fleet until Ctrl-C."""
    if every and node:
        raise click.UsageError("--all and --node exclude each other")
    settings = load_settings(config)
    colour = False if os.environ.get("NO_COLOR") else None  # click leaves colours out where nobody would see them
    topic = f"{settings.mqtt.base}/{'+' if every else node or settings.node}/+/event"
    for payload in once(follow(settings.mqtt, topic)):
        line = json.dumps(payload) if as_json else readable(payload, with_node=every)
        click.echo(click.style(line, fg=None if as_json else COLOURS.get(str(payload.get("type")))), color=colour)


def follow(settings: MqttSettings, topic: str) -> Iterator[dict[str, Any]]:
    """Yield the decoded messages of a topic filter for ever, over reconnects too, without what is no JSON object.

    Raises:
        WatchError: at the start, no broker of the list takes the connection.
    """
    ever = False
    while True:
        failures = []
        for host, port in settings.addresses:
            try:
                for payload in _follow_one(settings, host, port, topic):
                    ever = True
                    if payload:
                        yield payload
            except WatchError as error:
                failures.append(str(error))
        if not ever:
            raise WatchError("\n".join(failures))
        time.sleep(PAUSE)


def _follow_one(settings: MqttSettings, host: str, port: int, topic: str) -> Iterator[dict[str, Any]]:
    """Yield what comes from one broker until it is lost, nothing (an empty object) first when it has accepted us.

    Raises:
        WatchError: it cannot be reached or refuses us.
    """
    where = f"broker {host}:{port}"
    arrived: queue.SimpleQueue[dict[str, Any] | WatchError | None] = queue.SimpleQueue()

    def on_connect(client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            arrived.put(WatchError(f"{where}: refused the connection: {reason} (check mqtt.username, mqtt.password)"))
        else:
            client.subscribe(topic, qos=1)
            arrived.put({})

    def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            payload = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if isinstance(payload, dict) and payload:
            arrived.put(payload)

    client = _client(settings)
    client.on_connect, client.on_message = on_connect, on_message
    client.on_disconnect = lambda *_: arrived.put(None)
    try:
        client.connect(host, port, settings.keepalive)
    except (OSError, ValueError, paho.WebsocketConnectionError) as error:
        raise WatchError(f"{where}: {connection_failure(error, settings.tls is not None)}") from None
    client.loop_start()
    try:
        arrival = arrived.get(timeout=ANSWER_TIMEOUT)
        while arrival is not None:
            if isinstance(arrival, WatchError):
                raise arrival
            yield arrival
            arrival = arrived.get()
    except queue.Empty:
        raise WatchError(f"{where}: no answer to the connection request") from None
    finally:
        client.disconnect()
        client.loop_stop()


def once(payloads: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Leave out what comes again: an event can come twice."""
    seen: OrderedDict[str, None] = OrderedDict()
    for payload in payloads:
        name = str(payload.get("id"))
        if name not in seen:
            seen[name] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
            yield payload


def readable(payload: dict[str, Any], with_node: bool) -> str:
    """Return a line about an event. Whoever may publish there must not be able to steer the terminal."""
    try:
        event = decode_event(json.dumps(payload).encode())
        line = event_line(replace(event, camera=f"{event.node}/{event.camera}") if with_node else event)
    except (ValueError, TypeError, AttributeError, OverflowError):
        line = f"not an event: {json.dumps(payload)[:200]}"
    return "".join(character if character.isprintable() else "�" for character in line)


def _client(settings: MqttSettings) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"emotion-edge-watch-{secrets.token_hex(4)}",
        protocol=MQTTProtocolVersion.MQTTv5,
        transport=settings.transport,
        reconnect_on_failure=False,  # another broker may be there sooner
    )
    client.connect_timeout = CONNECT_TIMEOUT
    if settings.username is not None:
        password = settings.password
        client.username_pw_set(settings.username, password.get_secret_value() if password else None)
    if settings.transport == "websockets":
        client.ws_set_options(settings.path)
    if settings.tls is not None:
        client.tls_set_context(tls_context(settings.tls))
    return client
