"""Temperatures and throttling as the kernel writes them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edge.host import temperature, throttled


def test_hottest_zone_counts(tmp_path: Path) -> None:
    for number, text in enumerate(["48312\n", "61700\n", "no sensor\n"]):
        (tmp_path / f"thermal_zone{number}").mkdir()
        (tmp_path / f"thermal_zone{number}" / "temp").write_text(text)
    (tmp_path / "thermal_zone7").mkdir()
    assert temperature(tmp_path) == 61.7


def test_unknown_is_not_zero(tmp_path: Path) -> None:
    assert math.isnan(temperature(tmp_path))
    assert math.isnan(throttled(tmp_path / "none"))


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("50000\n", 0), ("50005", 1), ("4", 1)])
def test_only_what_is_now_counts_as_throttled(tmp_path: Path, text: str, value: float) -> None:
    (tmp_path / "get_throttled").write_text(text)
    assert throttled(tmp_path / "get_throttled") == value
