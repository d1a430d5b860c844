"""Detects that the wall clock was set: compares it with elapsed time. Pure.

Small corrections are no jump (time daemons slew by up to a tenth); steps too small to be one add up to one.
"""

from __future__ import annotations

JUMP_S = 2.0
_SLEW = 0.1
"""How fast a time daemon corrects a clock without a step at most (chrony's `maxslewrate` is 8 %)."""

_NOTHING_S = 0.05
"""Two clocks are read one after the other: what they differ by changes by this much while neither was set."""


def ahead_s(wall_s: float, passed_s: float, former_s: float) -> float:
    """The wall clock minus a clock that cannot be set, in seconds; `former_s` where it has hardly changed.

    A time on record is then shown as the same millisecond whenever it is asked for, and as its file has it.
    """
    found_s = wall_s - passed_s
    return former_s if abs(found_s - former_s) < _NOTHING_S else found_s


class ClockJumps:
    """The wall clock of one machine, as it was when last looked at."""

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
