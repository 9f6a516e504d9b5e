"""What the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        subject: what was looked at, such as `camera door`.
        state: how it is.
        text: what was found.
        remedy: what to do about it; empty where all is well.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(subject, "ok", text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    """Return a finding that will give trouble, or may."""
    return Finding(subject, "warning", text, remedy)


def failure(subject: str, text: str, remedy: str) -> Finding:
    """Return a finding that keeps the daemon from its work."""
    return Finding(subject, "failure", text, remedy)
