"""Three clocks, three names: `monotonic_s` for durations and deadlines of a process, `boottime_s` for what is counted
in a file (`passing_time.py`), `wall_s` for records that people read and for nothing else: it may be set.

CLOCK_MONOTONIC is shared by all processes of a machine, so a deadline written by a worker can be read by the master.
CLOCK_BOOTTIME counts the time that the machine was suspended, too.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

# Not time.monotonic and time.time: libraries that freeze time for tests replace those everywhere, here too.
monotonic_s = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
wall_s = partial(time.clock_gettime, time.CLOCK_REALTIME)

_LATEST_S = 253_402_300_799.0  # the end of the year 9999, the last that RFC 3339 can say


def boottime_s() -> float:
    """Seconds since the machine was booted, suspended ones included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(wall_time_s: float) -> str:
    """A wall-clock time as RFC 3339 in UTC with milliseconds, as logs and records carry it.

    One that RFC 3339 cannot say (before 1970 counts, too; no number) is shown as the nearest that it can.
    """
    sayable_s = min(max(wall_time_s, 0.0), _LATEST_S) if wall_time_s == wall_time_s else 0.0
    return datetime.fromtimestamp(sayable_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
