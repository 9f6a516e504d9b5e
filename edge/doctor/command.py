"""`emotion-edge doctor`: everything it looks at, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge.bundle import BundleError, read_bundle
from edge.config_option import DEFAULT_CONFIG
from edge.doctor.broker import broker
from edge.doctor.cameras import cameras
from edge.doctor.finding import Finding, State, failure, ok, warning
from edge.doctor.installation import installation
from edge.doctor.machine import disk, machine, port, readable_by_all
from edge.emotions import Classifier
from edge.litert import RuntimeMissingError
from edge.settings import Settings, SettingsError
from edge.settings_file import load_settings
from edge.strict_yaml import read
from edge.terminal import shown
from edge.yunet import DetectorError, read_detector

SECRETS = {"password", "token"}
COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="Print a list of {subject, state, text, remedy} as JSON.")
def doctor(config: Path, as_json: bool) -> None:
    """Look for what is in the way of the daemon; exit code 1 if there is a failure.

    Run it as the user that runs the daemon. Opens every camera and sends one message to the broker.
    """
    found = []
    for finding in examine(config):
        found.append(finding)
        if not as_json:
            click.echo(f"{click.style(f'{finding.state:8}', fg=COLOURS[finding.state])} {line(finding)}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    sys.exit(any(finding.state == "failure" for finding in found))


def line(finding: Finding) -> str:
    """Return a finding as one line, without its state."""
    return shown(f"{finding.subject}: {finding.text}" + (f" → {finding.remedy}" if finding.remedy else ""))


def examine(config: Path) -> Iterator[Finding]:
    """Look at everything; what depends on the settings only if they can be read."""
    yield from installation()
    yield from machine()
    try:
        settings = load_settings(config)
    except SettingsError as error:
        for mistake in str(error).splitlines():
            yield failure("settings", mistake, "mend the file; emotion-edge check reads it again")
        return
    yield _file(config, settings)
    yield _model(settings)
    yield disk(settings.outbox)
    yield port(settings.metrics)
    yield from broker(settings.mqtt, settings.node)
    yield from cameras(settings.cameras)


def _file(config: Path, settings: Settings) -> Finding:
    if readable_by_all(config) and _has_secrets(read(config)):
        remedy = f"chgrp emotion-edge {config} && chmod 640 {config}: the service reads it as that user"
        return warning("settings", f"{config}: holds passwords, and every user may read it", remedy)
    return ok("settings", f"{config}: node {settings.node}, cameras {', '.join(settings.cameras)}")


def _has_secrets(content: Any, key: str = "") -> bool:
    """Tell whether settings hold a secret as it is, not where to find it."""
    if isinstance(content, dict):
        return any(_has_secrets(value, str(name)) for name, value in content.items())
    return key in SECRETS and isinstance(content, str) and not content.startswith("${")


def _model(settings: Settings) -> Finding:
    """Let the model look at an empty picture, and read the detector that the settings name."""
    remedy = "mend model: in the settings, or leave it out for the one that ships"
    try:
        bundle = read_bundle(settings.model)
        height, width, channels = bundle.info.input.shape
        Classifier(bundle)(np.zeros((height, width, channels)[: 2 if channels == 1 else 3], np.uint8))
        read_detector(settings.detector.model)
    except (BundleError, DetectorError, RuntimeMissingError) as error:
        return failure("model", str(error), remedy)
    return ok("model", f"{bundle.info.name} {bundle.info.version}")
