"""What the kernel tells of the machine's load and health."""

from __future__ import annotations

import os
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
#: Raspberry Pi firmware: bits 0–3 say that it is under-voltage, capped, throttled or at its temperature limit now.
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
NOW = 0xF
CPU = Path("/proc/stat")
MEMORY = Path("/proc/meminfo")
NAN = float("nan")


def temperature(folder: Path = THERMAL) -> float:
    """Return the highest temperature of the machine's thermal zones in degrees Celsius, NaN if it tells none."""
    readings = []
    for path in folder.glob("thermal_zone*/temp"):
        try:
            readings.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):  # a zone without a sensor behind it
            continue
    return max(readings, default=NAN)


def throttled(path: Path = THROTTLED) -> float:
    """Return 1 if the firmware slows the processor down now, 0 if not, NaN if it does not tell."""
    try:
        return float(int(path.read_text(), 16) & NOW != 0)
    except (OSError, ValueError):
        return NAN


def cpu_seconds(path: Path = CPU) -> tuple[float, float]:
    """Return the seconds that all cores together have worked and been idle since boot, NaN if the kernel tells none."""
    try:
        _, *times = path.read_text().splitlines()[0].split()
        user, nice, system, idle, waiting, irq, softirq, stolen = (int(time) for time in times[:8])
    except (OSError, ValueError, IndexError):
        return NAN, NAN
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + stolen) / tick, (idle + waiting) / tick


def memory_bytes(path: Path = MEMORY) -> tuple[float, float]:
    """Return the bytes of memory that there are and that programs can still have, NaN if the kernel tells none."""
    try:
        values = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        total, available = (1024.0 * int(values[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return NAN, NAN
    return total, available
