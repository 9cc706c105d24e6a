"""Times, sizes and counts as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

__all__ = ["NONE", "ago", "byte_size", "clock", "counted", "duration", "parse_duration", "parse_time"]

NONE: Final = "-"
"""Stands where there is no value."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def parse_time(text: str | None) -> datetime | None:
    """Parse an RFC 3339 time; None for an absent or odd one."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """Return a length of time the way ``kubectl get`` writes ages: 45s, 3m20s, 5h10m, 3d."""
    whole = max(0, int(seconds))
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    return f"{whole // _DAY}d"


def _two(seconds: int, unit: int, name: str, smaller: int, smaller_name: str) -> str:
    rest = seconds % unit // smaller
    return f"{seconds // unit}{name}" + (f"{rest}{smaller_name}" if rest else "")


def ago(text: str | None, now: datetime) -> str:
    """Return how long ago a time was; ``-`` when there is none."""
    time = parse_time(text)
    return duration((now - time).total_seconds()) if time else NONE


def clock(text: str | None) -> str:
    """Return a time as ``2026-01-31 12:00:05 UTC``; ``-`` when there is none."""
    time = parse_time(text)
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time else NONE


def byte_size(size: int) -> str:
    """Return a size with decimal units: 999 B, 1.2 kB, 34 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: ``1 chunk``, ``1,200 chunks``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def parse_duration(text: str) -> float | None:
    """Return the seconds of a time like ``90s``, ``5m``, ``1h30m`` or ``90``; None for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
        return None
    units = {"h": _HOUR, "m": _MINUTE, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
