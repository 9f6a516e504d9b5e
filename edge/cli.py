"""The command `emotion-edge`."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import sys
import tempfile
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path

import click

from edge import __version__, logs
from edge.bench.command import bench
from edge.bench.rig import BenchError
from edge.bundle import DEFAULT_MODEL, BundleError, read_bundle
from edge.classify import ImageError, PictureClassifier, annotate, read_image, write_image
from edge.client import tls_context
from edge.config_option import DEFAULT_CONFIG, config_option
from edge.demo import DemoError, EmbeddedBroker, broker_answers, demo_settings, event_line, with_own_outbox
from edge.doctor.command import doctor
from edge.events import Event
from edge.http import HttpError
from edge.litert import RuntimeMissingError
from edge.number_option import a_number
from edge.outbox_commands import outbox
from edge.placed import placed
from edge.replay import ReplayError, replay_settings
from edge.replay import replay as play
from edge.service import Service
from edge.settings import Settings, SettingsError, without_effect
from edge.settings_file import load_settings, with_place
from edge.settings_schema import shipped
from edge.signals import Signals
from edge.store import OutboxBusyError, UnreadableError, look_where_it_will_be
from edge.terminal import shown
from edge.watch import WatchError, watch
from edge.yunet import DetectorError, read_detector

log = logging.getLogger(__name__)

#: Everything that a user can mend; printed as it is, without a traceback.
MENDABLE = (
    *(SettingsError, BundleError, DetectorError, ImageError, HttpError, OutboxBusyError, DemoError),
    *(ReplayError, RuntimeMissingError, WatchError, BenchError, UnreadableError),
)
INTERRUPTED = 130
#: When a recording may begin at the latest, so that each moment of it can be written down.
LATEST = datetime(9999, 1, 1, tzinfo=timezone.utc).timestamp()
#: Of a standard output that takes nothing more.
UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)


class _Interruptible(click.Group):
    """Ends at Ctrl-C with the exit code that shells expect, and without a word."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


@click.group(cls=_Interruptible)
@click.version_option(__version__, prog_name="emotion-edge")
def cli() -> None:
    """Emotion events from camera streams, over MQTT."""


@cli.command()
@config_option(f"Settings file. [default: {DEFAULT_CONFIG}]", default=None)
@click.option(
    "--demo",
    is_flag=True,
    help="A bundled clip unless there is --config, an outbox of its own, and a broker of its own if none answers.",
)
@click.option("--source", help="With --demo: a webcam's index, an rtsp:// address or a video file instead of the clip.")
@click.option(
    "--print", "print_events", is_flag=True, help="Print each event as it is published. [default with --demo]"
)
def run(config: Path | None, demo: bool, source: str | None, print_events: bool) -> None:
    """Run the daemon until Ctrl-C or SIGTERM."""
    if source and not demo:
        raise click.UsageError("--source goes with --demo; name cameras in the settings file")
    if source and config:
        raise click.UsageError("--source goes without --config; name cameras in the settings file")
    named = None if demo and config is None else config or DEFAULT_CONFIG
    with (
        tempfile.TemporaryDirectory(prefix="emotion-edge-", ignore_cleanup_errors=True)
        if demo
        else contextlib.nullcontext("") as folder
    ):

        def read() -> Settings:
            settings = demo_settings(source) if named is None else load_settings(named)
            return with_own_outbox(settings, Path(folder)) if demo else settings

        def reread() -> Settings:
            settings = read()
            _warn(settings, named)
            return settings

        signals = Signals()
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, signals.heard)
        settings = read()
        logs.configure(settings.log.level, settings.log.format)
        _warn(settings, named)
        try:
            with placed(named):
                published = _print_event if print_events or demo else None
                service = Service(settings, published, reread if named else None, named, signals)
                code = _run(service, settings, demo)
        except MENDABLE as error:
            for line in str(error).splitlines():
                log.error("%s", line)
            code = 2
    # Threads still blocked inside OpenCV must not hold up the end.
    sys.stdout.flush()
    sys.exit(code)


def _warn(settings: Settings, config: Path | None) -> None:
    if note := without_effect(settings):
        log.warning("%s", with_place(config, note))


def _run(service: Service, settings: Settings, demo: bool) -> int:
    broker = None
    if demo and not broker_answers(settings.mqtt):
        broker = EmbeddedBroker(settings.mqtt)
        broker.start()
    code = service.run(lambda: _say_where(settings, embedded=broker is not None) if demo else None)
    while service.successor is not None:  # a changed settings file asks for a new start of everything
        service = service.successor
        code = service.run()
    if broker is not None:
        broker.stop()
    return code


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(config: Path) -> None:
    """Check a settings file and the files it names; says file, line and key of a mistake."""
    settings = load_settings(config)
    with placed(config):
        if settings.mqtt.tls is not None:
            tls_context(settings.mqtt.tls)
        bundle = read_bundle(settings.model)
        read_detector(settings.detector.model)
        _check_outbox(settings.outbox.path, config)
    if note := without_effect(settings):
        click.echo(with_place(config, note), err=True)
    cameras = ", ".join(settings.cameras)
    model = f"{bundle.info.name} {bundle.info.version}"
    click.echo(shown(f"{config}: good; node {settings.node}, cameras {cameras}, model {model}"))


def _check_outbox(path: Path, config: Path) -> None:
    try:
        look_where_it_will_be(path)
    except OutboxBusyError:
        raise
    except PermissionError as error:  # no mistake if the daemon is another user's
        note = f"outbox.path: {path}: {error.strerror}; the user that runs the daemon must be able to"
        click.echo(shown(with_place(config, note)), err=True)
    except OSError as error:
        raise SettingsError(f"outbox.path: {path}: {error.strerror}; name a file elsewhere") from None


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option("Settings file. [default: none, the values that hold without one]", default=None)
@click.option("--camera", help="Camera of the settings whose zones, masks and sizes hold. [default: none]")
@click.option(
    "--start", default="1970-01-01", show_default=True, help="When the file begins, RFC 3339 or a date (UTC)."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Analysis threads; they change nothing but the time.")
def replay(file: Path, config: Path | None, camera: str | None, start: str, workers: int | None) -> None:
    """Print the events of a video file, one JSON object a line: the same bytes each time."""
    settings, name = replay_settings(file, config, camera, workers)
    logs.configure("error")
    if warning := play(settings, name, _moment(start), lambda event: click.echo(event.encode())):
        click.echo(shown(warning), err=True)


def _moment(text: str) -> float:
    """Read a date or RFC 3339 as seconds since 1970; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(f"{text}: no date or time; write 2026-01-31 or 2026-01-31T12:00:00Z") from None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if not 0 <= seconds < LATEST:
        raise click.BadParameter(f"{text}: not from 1970 on, or so late that the file would end after the year 9999")
    return seconds


@cli.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a list of {file, faces} as JSON, nothing else.")
@click.option("--annotate", "output", type=click.Path(path_type=Path), help="Draw the faces into a copy (one picture).")
@click.option("--model", type=click.Path(path_type=Path), default=DEFAULT_MODEL, help="Model file.")
@click.option(
    "--threshold",
    type=click.FloatRange(0.05, 0.99),
    default=0.45,
    show_default=True,
    callback=a_number,
    help="Least confidence.",
)
def classify(images: tuple[Path, ...], as_json: bool, output: Path | None, model: Path, threshold: float) -> None:
    """Print the faces of pictures, with boxes and probabilities; one that cannot be read is named and passed over."""
    if output and len(images) > 1:
        raise click.UsageError("--annotate takes one picture")
    if output and os.path.exists(output) and os.path.exists(images[0]) and output.samefile(images[0]):
        raise click.UsageError("--annotate would overwrite the picture itself; name another file")
    find = PictureClassifier(read_bundle(model), threshold)
    documents = []
    unreadable = False
    for path in images:
        try:
            image = read_image(path)
        except ImageError as error:
            click.echo(shown(str(error)), err=True)
            unreadable = True
            continue
        portraits = find(image)
        faces = [portrait.as_dict() for portrait in portraits]
        documents.append({"file": str(path), "faces": faces})
        if output:
            write_image(output, annotate(image, portraits))
        if not as_json:
            click.echo(f"{shown(str(path))}: {len(faces) or 'no'} face{'' if len(faces) == 1 else 's'}")
            for portrait in portraits:
                click.echo(f"  {_portrait_line(portrait.box, portrait.confidence, portrait.probabilities)}")
    if as_json:
        click.echo(json.dumps(documents, indent=2))
    if unreadable:
        sys.exit(2)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, by which editors complete and check it."""
    click.echo(shipped(), nl=False)


@cli.command()
def example() -> None:
    """Print a settings file with every key and a comment to each."""
    installed = resources.files("edge").joinpath("example.yaml")
    source = Path(__file__).parents[1] / "configs" / "edge.yaml"  # where it is in a checkout
    click.echo(installed.read_text(encoding="utf-8") if installed.is_file() else source.read_text(), nl=False)


cli.add_command(bench)
cli.add_command(doctor)
cli.add_command(outbox)
cli.add_command(watch)


def _portrait_line(box: tuple[float, ...], confidence: float, probabilities: dict[str, float]) -> str:
    x, y, width, height = (round(value) for value in box)
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    emotions = ", ".join(f"{label} {100 * value:.0f} %" for label, value in ranked if value >= 0.01)
    return shown(f"{width}×{height} at {x},{y}, confidence {confidence:.2f}: {emotions}")


def _say_where(settings: Settings, embedded: bool) -> None:
    mqtt = settings.mqtt
    note = " (embedded: no other answered there)" if embedded else ""
    click.echo(f"broker   {mqtt.host}:{mqtt.port}{note}")
    click.echo(f"topics   {mqtt.base}/{settings.node}/#      mosquitto_sub -h {mqtt.host} -t '{mqtt.base}/#' -v")
    click.echo(f"metrics  {settings.metrics.address}/metrics")
    if settings.preview.enabled:
        click.echo(f"preview  {settings.metrics.address}/preview")
    for name, camera in settings.cameras.items():
        click.echo(shown(f"camera   {name}: {camera.source}"))
    click.echo("events, as they are published (Ctrl-C ends):")


def _print_event(event: Event) -> None:
    # It runs in the publisher's thread: whatever becomes of the output, events go on to the broker all the same.
    try:
        click.echo(event_line(event))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # as in `run --print | head`
            click.echo(f"events are printed no more: {error.strerror}", err=True)
        _print_nowhere()


def _print_nowhere() -> None:
    """Let standard output take whatever is still to come, also at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def main() -> None:
    """Run the command; a mistake that the user can mend is one line on stderr and exit code 2."""
    try:
        try:
            cli()
        finally:
            sys.stdout.flush()
    except MENDABLE as error:
        click.echo(shown(str(error), keep="\n"), err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        click.echo(f"the output cannot be written: {error.strerror}; make room, or write it elsewhere", err=True)
        _print_nowhere()
        sys.exit(2)


if __name__ == "__main__":
    main()
