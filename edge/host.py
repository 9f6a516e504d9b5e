"""What the kernel tells of the machine's health."""

from __future__ import annotations

from pathlib import Path

THERMAL = Path("/sys/class/thermal")
#: Raspberry Pi firmware: bits 0–3 say that it is under-voltage, capped, throttled or at its temperature limit now.
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
NOW = 0xF


def temperature(folder: Path = THERMAL) -> float:
    """Return the highest temperature of the machine's thermal zones in degrees Celsius, NaN if it tells none."""
    readings = []
    for path in folder.glob("thermal_zone*/temp"):
        try:
            readings.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):  # a zone without a sensor behind it
            continue
    return max(readings, default=float("nan"))


def throttled(path: Path = THROTTLED) -> float:
    """Return 1 if the firmware slows the processor down now, 0 if not, NaN if it does not tell."""
    try:
        return float(int(path.read_text(), 16) & NOW != 0)
    except (OSError, ValueError):
        return float("nan")
