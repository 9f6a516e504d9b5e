"""`emotion-edge watch`: the events of a node or of all nodes, in the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.client import (
    ANSWER_TIMEOUT,
    UNSUPPORTED_VERSION,
    BrokerError,
    connect,
    make_client,
    refusal,
    tls_context,
)
from edge.config_option import config_option
from edge.demo import event_line
from edge.events import decode_event
from edge.placed import placed
from edge.settings import MqttSettings, is_name
from edge.settings_file import load_settings
from edge.terminal import shown

COLOURS = {"start": "green", "change": "yellow", "end": "blue"}
#: Events whose ids are remembered, so that one that comes twice is shown once.
REMEMBERED = 10_000
#: Seconds between rounds over the brokers of the list.
PAUSE = 1.0
#: How long the network is listened to before the next look at what came, seconds.
LISTEN = 0.2


class WatchError(RuntimeError):
    """The broker cannot be reached or refuses us; the message says why."""


@click.command()
@config_option("Settings file; it names node and broker.")
@click.option("--node", "-n", help="Another node than that of the settings.")
@click.option("--all", "every", is_flag=True, help="Every node at the broker.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with what was published.")
def watch(config: Path, node: str | None, every: bool, as_json: bool) -> None:
    """Follow the events of a node or a fleet until Ctrl-C."""
    if every and node:
        raise click.UsageError("--all and --node exclude each other")
    if node and not is_name(node):
        raise click.BadParameter(f"{node}: names of nodes consist of a-z, 0-9, _ and -", param_hint="--node")
    settings = load_settings(config)
    colour = False if os.environ.get("NO_COLOR") else None  # click leaves colours out where nobody would see them
    topic = f"{settings.mqtt.base}/{'+' if every else node or settings.node}/+/event"
    with contextlib.suppress(KeyboardInterrupt), placed(config):
        for payload in once(follow(settings.mqtt, topic, lambda line: click.echo(line, err=True))):
            line = json.dumps(payload) if as_json else readable(payload, with_node=every)
            click.echo(click.style(line, fg=None if as_json else COLOURS.get(str(payload.get("type")))), color=colour)


def follow(settings: MqttSettings, topic: str, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield the decoded messages of a topic filter for ever, over reconnects too, without what is no JSON object.

    Args:
        settings: of the broker.
        topic: a topic filter.
        say: gets a line when a connection is lost, when none can be had, once, and when there is one again.

    Raises:
        WatchError: at the start, no broker of the list takes the connection.
    """
    tls = tls_context(settings.tls) if settings.tls else None
    ever, said = False, ""
    while True:
        failures: list[str] = []
        for host, port in settings.addresses:
            try:
                with contextlib.closing(_Broker(settings, tls, host, port)) as broker:
                    broker.open(topic)
                    if ever:
                        say(f"{broker.name}: connected again")
                    ever, said, failures = True, "", []
                    yield from broker.messages()
                    say(f"{broker.name}: connection lost; trying again")
            except WatchError as error:
                failures.append(str(error))
        if not ever:
            raise WatchError("\n".join(failures))
        if failures and said != "\n".join(failures):
            said = "\n".join(failures)
            say(said)
        time.sleep(PAUSE)


class _Broker:
    """A connection without a thread of its own: nothing is read from it but while somebody waits for messages."""

    def __init__(self, settings: MqttSettings, tls: ssl.SSLContext | None, host: str, port: int) -> None:
        self.name = f"broker {host}:{port}"
        self._settings = settings
        self._tls = tls
        self._address = host, port
        self._client: paho.Client | None = None
        self._topic = ""
        self._arrived: deque[dict[str, Any]] = deque()
        self._answer: ReasonCode | None = None
        self._subscribed: ReasonCode | None = None

    def open(self, topic: str) -> None:
        """Connect, with MQTT 5 or else with 3.1.1, and subscribe. Raises `WatchError`."""
        self._topic = topic
        client = self._connect(MQTTProtocolVersion.MQTTv5)
        if self._answer is None or self._answer.value == UNSUPPORTED_VERSION:
            self.close()
            client = self._connect(MQTTProtocolVersion.MQTTv311)
        if self._answer is None:
            raise WatchError(f"{self.name}: no answer to the connection request")
        if self._answer.is_failure:
            raise WatchError(f"{self.name}: {refusal(self._answer)}")
        client.subscribe(topic, qos=1)
        self._wait_for(lambda: self._subscribed)
        if self._subscribed is None or self._subscribed.is_failure:
            why = self._subscribed or "no answer"
            raise WatchError(f"{self.name}: does not let us listen to {topic} ({why}); check its access lists")

    def _connect(self, protocol: MQTTProtocolVersion) -> paho.Client:
        name = f"emotion-edge-watch-{secrets.token_hex(4)}"
        self._answer, self._client = None, make_client(self._settings, name, protocol, self._tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        try:
            connect(self._client, self._settings, *self._address)
        except BrokerError as error:
            raise WatchError(f"{self.name}: {error}") from None
        self._wait_for(lambda: self._answer)
        return self._client

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what comes until the connection is lost."""
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            if not self._read():
                yield from self._arrived
                return

    def close(self) -> None:
        """Leave."""
        if self._client is not None:
            self._client.disconnect()

    def _read(self) -> bool:
        """Take in what comes within a moment; tells whether the connection lasts."""
        return self._client is not None and self._client.loop(LISTEN) is MQTTErrorCode.MQTT_ERR_SUCCESS

    def _wait_for(self, answer: Callable[[], ReasonCode | None]) -> None:
        end = time.monotonic() + ANSWER_TIMEOUT
        while answer() is None and time.monotonic() < end and self._read():
            pass

    def _on_connect(self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        self._answer = reason

    def _on_subscribe(self, _c: paho.Client, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        self._subscribed = reasons[0]

    def _on_message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        if not paho.topic_matches_sub(self._topic, message.topic):  # some brokers send all that they retain
            return
        try:
            payload = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if isinstance(payload, dict):
            self._arrived.append(payload)


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
    return shown(line)
