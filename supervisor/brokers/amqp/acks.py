"""Batches the acks of a pass: as few frames as possible, and none that settles another delivery.

Pure; runs in the consumer, one object per channel. RabbitMQ closes the channel (406) if a tag is settled twice, or
`multiple` names a settled tag; and a `multiple` ack settles everything below it (AMQP 0-9-1, basic.ack). So only the
contiguous run of acked tags from the bottom up is sent as one `multiple`, after every return of the same pass, and
acks above a gap are sent singly once they have waited for STRAGGLER_S.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

import msgspec

STRAGGLER_S = 0.01
"""How long an ack above a gap waits for the gap to close, in seconds."""

_NOT_HELD = math.inf


class How(Enum):
    """The ways to settle tags on the wire."""

    RETURN = "basic.nack, requeue"
    ACK = "basic.ack"
    ACK_UP_TO = "basic.ack, multiple"


class AckFrame(msgspec.Struct, frozen=True):
    """One frame to send."""

    how: How
    tag: int


class AckBatcher:
    """The unsettled tags of one channel. `tag`: a delivery tag; tags must be `delivered` in rising order."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()  # delivered tags, rising; the settled ones at its head are dropped late
        self._open: set[int] = set()
        self._acked: dict[int, float] = {}  # and since when each is held back
        self._returned: list[int] = []

    def delivered(self, tag: int) -> None:
        """A delivery came; its tag may now be settled, once."""
        self._order.append(tag)
        self._open.add(tag)

    @property
    def any_open(self) -> bool:
        """Whether a delivery is not settled."""
        return bool(self._open)

    def open_between(self, after: int, last: int) -> bool:
        """Whether a delivery with a tag beyond `after`, up to `last`, is not settled."""
        return any(after < tag <= last for tag in self._open)

    def ack(self, tag: int) -> None:
        """Acknowledge; a tag that is not open is ignored."""
        if tag in self._open:
            self._open.remove(tag)
            self._acked[tag] = _NOT_HELD

    def requeue(self, tag: int) -> None:
        """Return to the queue; a tag that is not open is ignored."""
        if tag in self._open:
            self._open.remove(tag)
            self._returned.append(tag)

    @property
    def waiting(self) -> bool:
        """Whether acks are held back for a gap to close: `take` again after STRAGGLER_S."""
        return bool(self._acked)

    def take(self, now_s: float, everything: bool = False) -> list[AckFrame]:
        """The frames to send now (`now_s`: monotonic), in order; with `everything` no ack is held back."""
        frames = [AckFrame(How.RETURN, tag) for tag in self._returned]
        self._returned.clear()
        if self._acked:
            frames += self._contiguous()
            frames += self._stragglers(now_s, everything)
        return frames

    def _contiguous(self) -> list[AckFrame]:
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        lowest_open = self._order[0] if self._order else None
        below = [tag for tag in self._acked if lowest_open is None or tag < lowest_open]
        for tag in below:
            del self._acked[tag]
        if len(below) <= 1:
            return [AckFrame(How.ACK, tag) for tag in below]
        return [AckFrame(How.ACK_UP_TO, max(below))]

    def _stragglers(self, now_s: float, everything: bool) -> list[AckFrame]:
        late = []
        for tag, held_s in self._acked.items():
            if everything or held_s <= now_s - STRAGGLER_S:
                late.append(tag)
            elif held_s == _NOT_HELD:
                self._acked[tag] = now_s
        for tag in late:
            del self._acked[tag]
        return [AckFrame(How.ACK, tag) for tag in late]
