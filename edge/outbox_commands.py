"""`emotion-edge outbox`: what waits in the outbox file of a daemon, looked at, sent, or thrown away."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path

import click

from edge import __version__, logs
from edge.config_option import config_option
from edge.events import rfc3339
from edge.metrics import Metrics
from edge.mqtt import Publisher
from edge.outbox import Outbox
from edge.placed import placed
from edge.settings import Settings, SettingsError
from edge.settings_file import load_settings
from edge.store import Lock, OutboxBusyError, Store, look_into, remove_damaged
from edge.terminal import shown

STOP = 2.0
of_outbox = config_option("Settings file; it names the outbox.")


@click.group()
def outbox() -> None:
    """What waits for the broker: list, send or delete it."""


@outbox.command("ls")
@of_outbox
@click.option("--refused", is_flag=True, help="What the broker refused for good, instead of what waits.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_messages(config: Path, refused: bool, as_json: bool) -> None:
    """List the messages in the order they will be sent; the daemon may be running. Exit code 1 if it is damaged."""
    path = load_settings(config).outbox.path
    with placed(config):
        remains = look_into(path)
    found = (
        (({"reason": reason}, message) for message, reason in remains.refused())
        if refused
        else (({"made": rfc3339(row.made)}, row.message) for row in remains.rows())
    )
    count = 0
    for about, message in found:
        line = {**about, "camera": message.camera, "kind": message.kind, "id": message.id}
        count += 1
        if as_json:
            click.echo(json.dumps({**line, "payload": json.loads(message.payload)}))
        else:
            click.echo(shown("  ".join(line.values())))
    damaged = remains.readable and not remains.sound()
    if damaged:
        click.echo(
            shown(f"{path}: damaged: this is what can be read; the daemon sets the file aside and keeps as much"),
            err=True,
        )
    elif not count:
        click.echo(shown(f"{path}: nothing {'was refused' if refused else 'waits'}"), err=True)
    remains.close()
    sys.exit(1 if damaged else 0)


@outbox.command()
@of_outbox
@click.option("--timeout", type=click.IntRange(1, 86_400), default=60, show_default=True, help="Seconds.")
def drain(config: Path, timeout: int) -> None:
    """Send what waits, without cameras; the daemon must be stopped.

    A broker that is away is tried again until the time is up; what it did not take keeps waiting. Exit code 1 if
    something is left, or if the outbox was damaged or could not be written.
    """
    settings = load_settings(config)
    logs.configure(settings.log.level, settings.log.format)
    queue = Outbox(
        settings.outbox.path, durability=settings.outbox.durability, most_bytes=sys.maxsize, most_seconds=float("inf")
    )
    metrics = Metrics(settings.node, __version__)
    with placed(config):
        publisher = Publisher(settings.mqtt, settings.node, queue, metrics, cameras=settings.cameras)
        queue.start(keep_events=settings.privacy != "aggregate")
    publisher.start()
    queue.wait_empty(timeout)
    left = publisher.stop(STOP)
    queue.stop(STOP)
    refused = metrics.refused()
    more = f", {refused} refused for good" if refused else ""
    click.echo(f"{metrics.delivered()} messages delivered, {left} left{more}")
    if queue.damaged:
        click.echo(shown(f"{settings.outbox.path}: was damaged: what could not be read of it is lost"), err=True)
    sys.exit(1 if left or queue.damaged or queue.problem() else 0)


@outbox.command()
@of_outbox
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(config: Path, yes: bool) -> None:
    """Delete what waits, what was refused, and damaged files that were set aside; the daemon must be stopped."""
    settings = load_settings(config)
    path = settings.outbox.path
    if not os.path.exists(path):
        click.echo(shown(f"{path}: there is none"))
        return
    if not yes:
        _ask(shown(f"delete everything that waits in {path}?"))
    with placed(config):
        gone = _empty(path, settings)
    click.echo(f"{gone} messages deleted")


def _ask(question: str) -> None:
    """Go on only if somebody says yes."""
    try:
        click.confirm(question, abort=True)
    except RuntimeError as error:  # click.Abort is one; another comes of a standard input that is closed
        if isinstance(error.__context__, EOFError) or not isinstance(error, click.Abort):
            raise click.UsageError("nobody answers, so nothing was deleted; --yes deletes without asking") from None
        raise


def _empty(path: Path, settings: Settings) -> int:
    try:
        lock = Lock(path)
        store = Store(path, settings.outbox.durability)
        gone = store.forget()
        store.erase()
        store.close()
        remove_damaged(path)
        lock.release()
    except OutboxBusyError:
        raise
    except (sqlite3.Error, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"outbox.path: {path}: {why}; remove the file by hand") from None
    return gone
