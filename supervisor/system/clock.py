"""Three clocks (clock_gettime(2)): `monotonic_s` for durations and deadlines, `boottime_s` for times kept in a file
(`passing_time.py`), and `wall_s`, which may be set, only for records that people read.

CLOCK_MONOTONIC is shared by all processes of a machine, so the master can read a worker's deadline. CLOCK_BOOTTIME
includes suspended time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

# Not time.monotonic and time.time: libraries that freeze time for tests replace those everywhere.
monotonic_s = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
wall_s = partial(time.clock_gettime, time.CLOCK_REALTIME)

_LATEST_S = 253_402_300_799.0  # the end of the year 9999, the last in RFC 3339


def boottime_s() -> float:
    """Seconds since the boot of the machine, suspended time included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(wall_time_s: float) -> str:
    """A wall-clock time as RFC 3339 in UTC with milliseconds, the format of logs and records.

    A time outside of 1970 to 9999 is shown as the nearest one, NaN as 1970.
    """
    shown_s = min(max(wall_time_s, 0.0), _LATEST_S) if wall_time_s == wall_time_s else 0.0
    return datetime.fromtimestamp(shown_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
