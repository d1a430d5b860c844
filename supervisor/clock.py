"""Two clocks, two names: `monotonic_s` for durations and deadlines, `wall_s` for records that people read.

CLOCK_MONOTONIC is shared by all processes of a machine, so a deadline written by a worker can be read by the master.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

monotonic_s = time.monotonic
wall_s = time.time


def rfc3339(wall_time_s: float) -> str:
    """A wall-clock time as RFC 3339 in UTC with milliseconds, as logs and records carry it."""
    return datetime.fromtimestamp(wall_time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
