"""Copies that the broker has refused and that are not placed yet: how long each waits, which go first. Pure.

Part of the settlement, in the consumer process. A refusal may last for days (a full dead-letter queue, a missing
right), so each copy is published again ever more rarely. A queue that takes one copy again is given two more at once:
all follow quickly once it has room for all, and few do when it has room for one.
"""

from __future__ import annotations

import itertools

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


class _Queue:
    """The refused copies for one queue. `waiting`: those not under way again, the longest waiting first."""

    __slots__ = ("reason", "tokens", "waiting")

    def __init__(self) -> None:
        self.reason = ""
        self.tokens: set[int] = set()
        self.waiting: dict[int, None] = {}


class RefusedCopies:
    """By `token`, of the copy's publication. A copy stays here until it is confirmed or cancelled, also while it is
    published again.

    `changes` counts whatever may change which copies are refused, or which deliveries wait for them.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._times: dict[int, int] = {}
        self._queue_of: dict[int, str] = {}
        self._queues: dict[str, _Queue] = {}
        self._for_good: dict[int, int] = {}  # refusals in a row for what the copy itself is
        self._hopeless: dict[int, str] = {}  # and what is told of those with too many

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, token: int | None) -> bool:
        return token in self._times

    def add(self, copy: Outgoing, reason: str, for_good: bool = False) -> bool:
        """The broker refused this copy, `for_good`: for what it is; whether for the first time."""
        name = self._queue_of[copy.token] = destination(copy)
        queue = self._queues.setdefault(name, _Queue())
        queue.reason = reason
        queue.tokens.add(copy.token)
        queue.waiting[copy.token] = None
        times = self._times[copy.token] = self._times.get(copy.token, 0) + 1
        self.changes += times == 1
        self._judge(copy, reason, for_good)
        return times == 1

    def is_hopeless(self, token: int) -> bool:
        """Whether this copy was refused for its content, again and again."""
        return token in self._hopeless

    def begin_again(self, copy: Outgoing) -> None:
        """This copy is another one from now on: it is no longer hopeless, and is tried soon."""
        self._times[copy.token] = 1
        self._judge(copy, "", for_good=False)

    def _judge(self, copy: Outgoing, reason: str, for_good: bool) -> None:
        token, name = copy.token, destination(copy)
        was = self._hopeless.pop(token, None)
        self._for_good[token] = self._for_good.get(token, 0) + 1 if for_good else 0
        if self._for_good[token] >= HOPELESS_AFTER:
            self._queues[name].waiting.pop(token, None)  # that another one was taken says nothing about it
            size = len(copy.body)
            self._hopeless[token] = f"message {copy.properties.message_id!r} ({size} bytes) for {name!r}: {reason}"
        self.changes += self._hopeless.get(token) != was

    def wait_s(self, token: int) -> float:
        """How long a copy waits before it is published again; one that was never refused as after the first refusal."""
        if token in self._hopeless:
            return HOPELESS_AGAIN_S
        first_s, longest_s = AGAIN_S
        times: int = min(self._times.get(token, 1), _LONGEST_AFTER)
        return min(first_s * 2.0 ** (times - 1), longest_s)

    def published(self, token: int) -> None:
        """It is published again: it does not wait."""
        name = self._queue_of.get(token)
        if name is not None:
            self._queues[name].waiting.pop(token, None)

    def next_for(self, queue: str) -> list[int]:
        """The copies to publish now, as `queue` has just taken one."""
        found = self._queues.get(queue)
        return list(itertools.islice(found.waiting, _FOLLOW)) if found else []

    def drop(self, token: int) -> None:
        """It is placed, or no longer wanted."""
        if self._times.pop(token, None) is None:
            return
        self.changes += 1
        self._for_good.pop(token, None)
        self._hopeless.pop(token, None)
        name = self._queue_of.pop(token)
        queue = self._queues[name]
        queue.tokens.discard(token)
        queue.waiting.pop(token, None)
        if not queue.tokens:
            del self._queues[name]

    def told(self) -> str:
        """The text for users about them all."""
        each = (f"{len(queue.tokens)} for {name!r}: {queue.reason}" for name, queue in self._queues.items())
        hopeless = ""
        if self._hopeless:
            first, more = next(iter(self._hopeless.values())), len(self._hopeless) - 1
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
