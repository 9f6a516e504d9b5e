"""What options that take a number refuse, whatever their range is."""

from __future__ import annotations

import math

import click


def a_number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """Refuse what compares with nothing, and so lies in every range; a callback for `click.option`."""
    if math.isnan(value):
        raise click.BadParameter("is no number")
    return value
