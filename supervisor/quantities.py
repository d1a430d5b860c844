"""Durations and sizes in text: `"250ms"`, `"1h30m"`, `"256MiB"`. Pure.

All other code uses seconds (float, `_s`) and bytes (int, `_bytes`). The output of the two `show_` functions is valid
input for the two readers.
"""

from __future__ import annotations

import math
import re

DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS_BYTES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}

LONGEST_S = 3650 * 86400.0
LARGEST_BYTES = 2**63 - 1

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION_PART = re.compile(_NUMBER + r"\s*([a-z]+)\s*", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)
_SIZE = re.compile(_NUMBER + r"\s*([a-z]+)", re.ASCII)

_DURATION_HELP = 'not a duration: write "250ms", "30s", "5m", "1h", "7d" or a number of seconds'
_SIZE_HELP = 'not a size: write "256MiB", "1GiB", "500kB" or a number of bytes'


def read_seconds(value: object) -> float:
    """The seconds in `value`: `"30s"`, `"1h30m"` or a number. Raises ValueError, whose text has examples."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _seconds(value)
    if not isinstance(value, str):
        raise ValueError(_DURATION_HELP)
    text = value.strip().lower()
    if not _DURATION.fullmatch(text):
        raise ValueError(_DURATION_HELP)
    parts = _DURATION_PART.findall(text)
    if unknown := [unit for _, unit in parts if unit not in DURATION_UNITS_S]:
        raise ValueError(f"unknown unit {unknown[0]!r}: use one of {', '.join(DURATION_UNITS_S)}")
    return _seconds(math.fsum(float(number) * DURATION_UNITS_S[unit] for number, unit in parts))


def read_bytes(value: object) -> int:
    """The bytes in `value`: `"256MiB"` or a number. Raises ValueError, whose text has examples."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _size(value)
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(_SIZE_HELP)
    number, unit = match.groups()
    if unit not in SIZE_UNITS_BYTES:
        raise ValueError(f"unknown unit {unit!r}: use one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB")
    return _size(round(_finite(float(number) * SIZE_UNITS_BYTES[unit])))


def show_seconds(seconds: float) -> str:
    """A duration of `seconds` in its two largest units: `250ms`, `1.5s`, `1m30s`, `7d`."""
    if seconds < 0:
        return f"-{show_seconds(-seconds)}"
    if seconds < 1:
        return f"{round(seconds * 1000, 1):g}ms" if seconds else "0s"
    if seconds < 60:
        return f"{math.floor(seconds * 1000) / 1000:g}s"
    return _two_units(math.floor(seconds))


def show_limit(seconds: float) -> str:
    """A time limit of `seconds`; a long one in seconds, too, which shows a value meant as milliseconds."""
    shown = show_seconds(seconds)
    return shown if seconds < DURATION_UNITS_S["h"] else f"{seconds:g} s ({shown})"


def show_bytes(size: int) -> str:
    """A `size` in bytes, shown in the largest binary unit that it fills: `512B`, `1.5GiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = SIZE_UNITS_BYTES[unit.lower()]
        if abs(size) >= factor:
            return f"{round(size / factor, 1):g}{unit}"
    return f"{size}B"


def _two_units(seconds: int) -> str:
    shown: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, round(DURATION_UNITS_S[unit]))
        if count or shown:
            shown.append(f"{count}{unit}" if count else "")
    return "".join(shown[:2])


def _seconds(number: float) -> float:
    if _finite(number) > LONGEST_S:
        raise ValueError("must not be longer than 3650d (ten years)")
    return float(number)


def _size(number: int) -> int:
    if _finite(number) > LARGEST_BYTES:
        raise ValueError("must be below 8388608TiB: no machine has more")
    return number


def _finite(number: float) -> float:
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError("must be a finite number")
    if number < 0:
        raise ValueError("must not be negative")
    return number
