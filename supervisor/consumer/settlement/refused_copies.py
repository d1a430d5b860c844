"""Copies that the broker has refused and that are not placed yet: how long each waits, which go first. Pure.

Part of the settlement, in the consumer process. A refusal may last for days (a full dead-letter queue, a missing
right), so each copy is published again ever more rarely. A queue that takes one copy again is given two more at once:
all follow quickly once it has room for all, and few do when it has room for one.
"""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec

from supervisor.brokers.base import Outgoing
from supervisor.brokers.names import retry_queue

AGAIN_S = (1.0, 15.0)
"""The wait after the first refusal, and the longest one; in between it doubles."""
HOPELESS_AFTER = 3
"""So many refusals in a row for what the copy itself is (too large) make it hopeless: only other limits would help."""
HOPELESS_AGAIN_S = 60.0
"""How rarely a hopeless copy is tried: each try closes the channel or connection for all others."""
_FOLLOW = 2
_LONGEST_AFTER = 8  # refusals


def destination(copy: Outgoing) -> str:
    """The queue that a copy is for."""
    return retry_queue(copy.routing_key, copy.delay_s) if copy.delay_s > 0 else copy.routing_key


class _Refused(msgspec.Struct):
    """One refused copy: its queue; `for_good`: refusals in a row for what the copy itself is."""

    queue: str
    times: int = 0
    for_good: int = 0
    hopeless: str = ""  # what is told of one with too many of these


class RefusedCopies:
    """By `token`, of the copy's publication. A copy stays here until it is confirmed or cancelled, also while it is
    published again.

    `changes` counts whatever may change which copies are refused, or which deliveries wait for them.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._copies: dict[int, _Refused] = {}
        self._waiting: dict[str, dict[int, None]] = {}  # by queue: those not under way again, the longest waiting first
        self._reasons: dict[str, str] = {}  # the last one of each queue

    def __len__(self) -> int:
        return len(self._copies)

    def __contains__(self, token: int | None) -> bool:
        return token in self._copies

    def add(self, copy: Outgoing, reason: str, for_good: bool = False) -> bool:
        """The broker refused this copy, `for_good`: for what it is; whether for the first time."""
        queue = destination(copy)
        refused = self._copies.setdefault(copy.token, _Refused(queue))
        refused.times += 1
        refused.for_good = refused.for_good + 1 if for_good else 0
        self._reasons[queue] = reason
        self._waiting.setdefault(queue, {})[copy.token] = None
        self.changes += refused.times == 1
        hopeless = ""
        if refused.for_good >= HOPELESS_AFTER:
            del self._waiting[queue][copy.token]  # that another one was taken says nothing about it
            size = len(copy.body)
            hopeless = f"message {copy.properties.message_id!r} ({size} bytes) for {queue!r}: {reason}"
        self._set_hopeless(refused, hopeless)
        return refused.times == 1

    def is_hopeless(self, token: int) -> bool:
        """Whether this copy was refused for its content, again and again."""
        return token in self._copies and bool(self._copies[token].hopeless)

    def begin_again(self, token: int) -> None:
        """This copy is another one from now on: it is no longer hopeless, and is tried soon."""
        refused = self._copies[token]
        refused.times, refused.for_good = 1, 0
        self._set_hopeless(refused, "")

    def wait_s(self, token: int) -> float:
        """How long a copy waits before it is published again; one that was never refused as after the first refusal."""
        if self.is_hopeless(token):
            return HOPELESS_AGAIN_S
        first_s, longest_s = AGAIN_S
        times = min(self._copies[token].times, _LONGEST_AFTER) if token in self._copies else 1
        return float(min(first_s * 2.0 ** (times - 1), longest_s))

    def published(self, token: int) -> None:
        """It is published again: it does not wait."""
        if token in self._copies:
            self._waiting[self._copies[token].queue].pop(token, None)

    def next_for(self, queue: str) -> list[int]:
        """The copies to publish now, as `queue` has just taken one."""
        return list(itertools.islice(self._waiting.get(queue, ()), _FOLLOW))

    def drop(self, token: int) -> None:
        """It is placed, or no longer wanted."""
        refused = self._copies.pop(token, None)
        if refused is not None:
            self.changes += 1
            self._waiting[refused.queue].pop(token, None)
        if not self._copies:
            self._waiting.clear()
            self._reasons.clear()

    def _set_hopeless(self, refused: _Refused, text: str) -> None:
        self.changes += refused.hopeless != text
        refused.hopeless = text

    def told(self) -> str:
        """The text for users about them all."""
        counts = Counter(refused.queue for refused in self._copies.values())
        each = (f"{count} for {name!r}: {self._reasons[name]}" for name, count in counts.items())
        hopeless, hopeless_ones = "", [refused.hopeless for refused in self._copies.values() if refused.hopeless]
        if hopeless_ones:
            first, more = hopeless_ones[0], len(hopeless_ones) - 1
            hopeless = (
                f"; and the copy of {first}{f' (and {more} more)' if more else ''}: it is refused for its content and "
                "tried once a minute: raise the limit that it breaks (max_message_size in rabbitmq.conf for its size), "
                "or stop the daemon and take the message out of its queue"
            )
        return (
            f"the broker refuses copies of messages ({'; '.join(each)}): these messages stay on record and "
            "unacknowledged until it takes their copies, which are tried again; make room in the queue, or give the "
            f"user the right{hopeless}"
        )
