"""Elapsed time, as a file's own clock: it cannot be set, and continues when the file is opened again.

The wall clock may be set, step back, or begin in 1970 at a boot. So ages and delays (of a ledger's row, of a message)
are counted by CLOCK_BOOTTIME (clock_gettime(2)), which includes suspended time. A file keeps the boot's id and the
offset to that boot's clock. Pure, but for the clock.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.system.clock import boottime_s


class Anchor(NamedTuple):
    """The stored part of a file's clock: in the boot `boot_id` its time is CLOCK_BOOTTIME plus `offset_s`."""

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
    known = former is not None and former.boot_id == boot_id
    offset_s = former.offset_s if former is not None and known else begin_s - boottime_s()
    return Anchor(boot_id, max(offset_s, latest_s - boottime_s()))
