"""When the time of a message is over that no worker has begun: `max_wait` of its pool, and its own header. Pure.

Part of the settlement, in the consumer process. Only the first run of a message can expire, while it has certainly not
begun: the effect of any other may have happened, and what an operator retries is to run. Publishers state times of
their wall clocks, so ours is needed, and a wrong one must not let a whole queue expire. A message in hand is timed by
CLOCK_BOOTTIME (clock_gettime(2)), which cannot be set.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from supervisor.brokers.copy_headers import EXPIRES
from supervisor.consumer.settlement.messages import EXPIRED, Arrival, Entry, Expiry, Failure
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.logs.events import Event
from supervisor.quantities import show_seconds
from supervisor.system.clock import JUMP_S, rfc3339

BELIEVED_AFTER_S = 300.0
"""A wall clock that was set forward counts only after so long: one that is ahead for a moment expires nothing."""
PLAUSIBLE_S = (1e9, 1e11)
"""Times from 2001 to 5138. Anything else is a duration, milliseconds, or a clock that was never set."""

_FIRST = (1, 1)
_TIMESTAMP_S = 1.0  # AMQP's timestamps have whole seconds: the message may be as much younger


class Expiries:
    """The clock that expiry goes by, and what it says about messages. `decisions`: where a warning goes.

    `look` comes before all else.
    """

    def __init__(self, decisions: UnitOfWork) -> None:
        self._decisions = decisions
        self._passed_s = 0.0
        self._ahead_s = math.inf  # the wall clock minus the elapsed time, as far as it is believed
        self._doubted_s = 0.0  # the same of a clock that was set forward
        self._since_s: float | None = None  # when that was seen first
        self._told = False

    def look(self, passed_s: float, wall_s: float) -> None:
        """The time is now `passed_s` (CLOCK_BOOTTIME) and `wall_s`. A clock that was set back counts at once."""
        self._passed_s, ahead_s = passed_s, wall_s - passed_s
        if ahead_s - self._ahead_s < JUMP_S:
            self._ahead_s, self._since_s = ahead_s, None
            return
        if self._since_s is None or abs(ahead_s - self._doubted_s) >= JUMP_S:
            self._since_s, self._doubted_s = passed_s, ahead_s
        if passed_s - self._since_s >= BELIEVED_AFTER_S:
            self._ahead_s, self._since_s = ahead_s, None

    def of(self, entry: Entry, arrival: Arrival, max_wait_s: float) -> Expiry | None:
        """When the message of `entry` expires once this delivery of it is added. `max_wait_s`: of the pool, 0 for none.

        A message that was sent twice expires with the later one.
        """
        if (entry.round, entry.attempt) != _FIRST or entry.maybe_duplicate:
            return None
        expiry = self._of(arrival, max_wait_s)
        if entry.delivery is None or expiry is None or entry.expiry is None:
            return expiry if entry.delivery is None else None
        return max(entry.expiry, expiry, key=lambda each: each.due_s)

    def is_over(self, expiry: Expiry) -> bool:
        """Whether the time is over."""
        return self._passed_s >= expiry.due_s

    def failure(self, expiry: Expiry) -> Failure:
        """As whose result a message whose time is over becomes a dead letter."""
        return Failure(EXPIRED, self.reason(expiry))

    def reason(self, expiry: Expiry) -> str:
        """Why a message whose time is over does not run: what its publisher has stated, and how long ago that was."""
        ago = show_seconds(float(math.floor(max(0.0, self._passed_s + self._ahead_s - expiry.stated_s))))
        at = rfc3339(expiry.stated_s)
        if not expiry.max_wait_s:
            return f"not begun in time: {EXPIRES} is {at}, {ago} ago"
        began = f"published {at}" if expiry.stamped else f"without a timestamp, read first {at}"
        return f"not begun in time: {began}, {ago} ago; max_wait is {show_seconds(expiry.max_wait_s)}"

    def _of(self, arrival: Arrival, max_wait_s: float) -> Expiry | None:
        """The earlier of the two; None for none."""
        own = None if arrival.expires is None else self._own(arrival)
        if not max_wait_s:
            return own
        now_s = self._passed_s + self._ahead_s
        timestamp_s = arrival.delivery.properties.timestamp or 0
        stamped = is_plausible(timestamp_s)  # a timestamp of the future counts as now
        stated_s, least_s = (
            (min(timestamp_s, now_s), min(timestamp_s + _TIMESTAMP_S, now_s)) if stamped else (now_s,) * 2
        )
        due_s = least_s + max_wait_s - self._ahead_s
        return own if own is not None and own.due_s <= due_s else Expiry(due_s, stated_s, max_wait_s, stamped)

    def _own(self, arrival: Arrival) -> Expiry | None:
        stated_s = moment_s(arrival.expires)
        if stated_s is not None:
            return Expiry(stated_s - self._ahead_s, stated_s)
        if not self._told:
            self._told = True
            text = (
                f"message {arrival.id!r} has {EXPIRES} {str(arrival.expires)[:80]!r}, which is no time: it does not "
                "expire by that; write seconds since 1970, or ISO 8601. Further ones are not logged"
            )
            self._decisions.say(Event.MESSAGE_EXPIRY_UNREADABLE, text, arrival, warning=True)
        return None


def is_plausible(wall_time_s: float) -> bool:
    """Whether a publisher can have meant this time, in seconds since 1970."""
    least_s, most_s = PLAUSIBLE_S
    return least_s <= wall_time_s < most_s


def moment_s(value: Any) -> float | None:
    """The `value` of the header in seconds since 1970: such a number, an AMQP timestamp, or a text (ISO 8601, UTC where
    it names no zone, or digits). None for anything else."""
    if isinstance(value, str):
        value = _read(value.strip())
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_plausible(value):
        return None
    return float(value)


def _read(text: str) -> int | datetime | None:
    try:
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else datetime.fromisoformat(text)
    except ValueError:
        return None
