"""An example of a consumer: one of several that share the events of a fleet among them, none of which is lost.

    python deploy/fleet/consumer.py --port 1883 --name one --group archive --into one.txt

Every consumer of a group gets its share (MQTT 5 shared subscription). The broker keeps the session of one that dies,
and gets the acknowledgement of an event only once its id is written. An event can come twice: drop a repeated id.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import click
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

#: Seconds for which the broker keeps the session of a consumer that is away.
SESSION = 86_400
#: Events under way to one consumer, at most: what one that is slow keeps from the others.
WINDOW = 4


@click.command(help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=1883, show_default=True)
@click.option("--name", required=True, help="Of this consumer, the same at each start.")
@click.option("--group", default="archive", show_default=True, help="Those of a group share the events.")
@click.option("--topic", default="emotion/+/+/event", show_default=True)
@click.option("--into", required=True, type=click.Path(), help="File that gets a line an event: its id.")
@click.option("--rate", default=0.0, help="Events a second, at most; 0 for no limit.")
def consume(host: str, port: int, name: str, group: str, topic: str, into: str, rate: float) -> None:
    """Write down the ids of events, for ever."""
    ids = os.open(into, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def on_connect(client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            click.echo(f"broker {host}:{port}: refused the connection: {reason}", err=True)
        else:
            client.subscribe(f"$share/{group}/{topic}", qos=1)

    def on_message(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if rate:
            time.sleep(1 / rate)
        try:
            line = f"{json.loads(message.payload)['id']}\n".encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            line = b""  # not an event, however deep or odd
        os.write(ids, line)
        client.ack(message.mid, message.qos)

    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"consumer-{group}-{name}",
        protocol=MQTTProtocolVersion.MQTTv5,
        manual_ack=True,
    )
    client.on_connect, client.on_message = on_connect, on_message
    client.reconnect_delay_set(1, 2)  # to be there before the sites are, after a restart of the centre
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = SESSION
    session.ReceiveMaximum = WINDOW
    client.connect_async(host, port, clean_start=False, properties=session)
    client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    consume()
