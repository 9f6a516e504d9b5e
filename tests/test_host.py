"""Temperatures and throttling as the kernel writes them."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from edge.host import CPU, MEMORY, cpu_seconds, memory_bytes, temperature, throttled


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


def test_cpu_time_is_split_into_work_and_idleness(tmp_path: Path) -> None:
    path = tmp_path / "stat"
    path.write_text("cpu  100 20 30 4000 50 6 7 8 99 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
    tick = os.sysconf("SC_CLK_TCK")
    assert cpu_seconds(path) == ((100 + 20 + 30 + 6 + 7 + 8) / tick, 4050 / tick)


def test_memory_is_that_which_programs_can_have(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:        3882240 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB\n")
    assert memory_bytes(path) == (3882240 * 1024, 2000000 * 1024)


@pytest.mark.parametrize("text", ["", "cpu 1 2\n", "MemTotal: many kB\nMemAvailable: 3 kB\n", "cpu a b c d e f g h\n"])
def test_load_that_cannot_be_read_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    for path in (tmp_path / "file", tmp_path / "none"):
        assert all(math.isnan(value) for value in (*cpu_seconds(path), *memory_bytes(path)))


def test_this_machine_tells() -> None:
    total, available = memory_bytes(MEMORY)
    assert total > available > 0
    assert all(value > 0 for value in cpu_seconds(CPU))
