"""Three clocks (clock_gettime(2)): `monotonic_s` for durations and deadlines, `boottime_s` for times kept in a file
(`Anchor`), and `wall_s`, which may be set (`ClockJumps`), only for records that people read.

CLOCK_MONOTONIC is shared by all processes of a machine, so the master can read a worker's deadline. CLOCK_BOOTTIME
includes suspended time. The wall clock may step back, or begin in 1970 at a boot.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

# Not time.monotonic and time.time: libraries that freeze time for tests replace those everywhere.
monotonic_s = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
boottime_s = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
wall_s = partial(time.clock_gettime, time.CLOCK_REALTIME)

_LATEST_S = 253_402_300_799.0  # the end of the year 9999, the last in RFC 3339

JUMP_S = 2.0
_SLEW = 0.1
"""How fast a time daemon corrects a clock without a step at most (chrony's `maxslewrate` is 8 %)."""

_NOTHING_S = 0.05
"""Two clocks are read one after the other: what they differ by changes by this much while neither was set."""


def rfc3339(wall_time_s: float) -> str:
    """A wall-clock time as RFC 3339 in UTC with milliseconds, the format of logs and records.

    A time outside of 1970 to 9999 is shown as the nearest one, NaN as 1970.
    """
    shown_s = min(max(wall_time_s, 0.0), _LATEST_S) if wall_time_s == wall_time_s else 0.0
    return datetime.fromtimestamp(shown_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Anchor(NamedTuple):
    """The stored part of a file's clock: in the boot `boot_id` its time is CLOCK_BOOTTIME plus `offset_s`.

    It cannot be set, and continues when the file is opened again: ages and delays (of a ledger's row, of a message) are
    counted by it.
    """

    boot_id: str
    offset_s: float

    @property
    def now_s(self) -> float:
        """The file's time, in seconds, while this boot lasts."""
        return boottime_s() + self.offset_s


def anchored(former: Anchor | None, boot_id: str, latest_s: float, begin_s: float) -> Anchor:
    """The clock of a file that is opened in this boot; it never shows less than `latest_s`, the latest known time.

    `former`: the stored clock, or None. In the same boot it continues. In another boot, after an unknown time off, the
    clock begins at `begin_s`.
    """
    if former is None or former.boot_id != boot_id:
        former = Anchor(boot_id, begin_s - boottime_s())
    return Anchor(boot_id, max(former.offset_s, latest_s - boottime_s()))


def ahead_s(wall_s: float, passed_s: float, former_s: float) -> float:
    """The wall clock minus a clock that cannot be set, in seconds; `former_s` where it has hardly changed.

    A time on record is then shown as the same millisecond whenever it is asked for, and as its file has it.
    """
    found_s = wall_s - passed_s
    return former_s if abs(found_s - former_s) < _NOTHING_S else found_s


class ClockJumps:
    """Detects that the wall clock of this machine was set: compares it with elapsed time. Pure.

    Small corrections are no jump (time daemons slew by up to a tenth); steps too small to be one add up to one.
    """

    def __init__(self, wall_s: float, passed_s: float) -> None:
        self._ahead_s = wall_s - passed_s
        self._looked_s = passed_s

    def look(self, wall_s: float, passed_s: float) -> float:
        """By how many seconds the clock was set (back: negative); 0 while it was not.

        `wall_s`: the wall clock; `passed_s`: a clock that cannot be set. A jump is reported once.
        """
        slewed_s = _SLEW * max(0.0, passed_s - self._looked_s)
        self._looked_s = passed_s
        off_s = wall_s - passed_s - self._ahead_s
        if abs(off_s) - slewed_s < JUMP_S:
            self._ahead_s += max(-slewed_s, min(off_s, slewed_s))
            return 0.0
        self._ahead_s += off_s
        return off_s
