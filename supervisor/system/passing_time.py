"""Elapsed time, as a file's own clock: it cannot be set, and goes on where it was when the file is opened again.

The wall clock is for records that people read: it may be set, step back, or begin in 1970 at a boot. Ages and delays
(of a ledger's row, of a message) are counted by CLOCK_BOOTTIME (clock_gettime(2)), which counts suspended time, too.
A file keeps the boot's id and the offset to that boot's clock. Pure, but for the clock.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.system.clock import boottime_s


class Anchor(NamedTuple):
    """The part of its clock that a file keeps: in the boot of this id its time is CLOCK_BOOTTIME plus `offset_s`."""

    boot_id: str
    offset_s: float

    @property
    def now_s(self) -> float:
        """The file's time, in seconds, while this boot lasts."""
        return boottime_s() + self.offset_s


def anchored(former: Anchor | None, boot_id: str, latest_s: float, begin_s: float) -> Anchor:
    """The clock of a file that is opened in this boot; it never shows less than `latest_s`, the latest time known.

    `former`: the clock that the file had, if any. In the same boot it goes on: all time since has passed for certain.
    How long the machine was off before another boot is not known: it begins at `begin_s` then.
    """
    known = former is not None and former.boot_id == boot_id
    offset_s = former.offset_s if former is not None and known else begin_s - boottime_s()
    return Anchor(boot_id, max(offset_s, latest_s - boottime_s()))
