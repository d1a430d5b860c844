"""Messages that leave the pool's queue without a delivery to this daemon: purged, expired, dropped, or taken. Pure.

In the consumer process. A policy of the broker (message-ttl, max-length, expires) cannot be asked for over AMQP; its
effect can be seen: a queue gets shorter only by deliveries. What comes in hides as many losses.
"""

from __future__ import annotations


class Shrinkage:
    """The balance of one queue, from one look to the next."""

    def __init__(self) -> None:
        self._ready: int | None = None
        self._delivered = 0
        self._rate = 0  # deliveries between the last two looks

    def look(self, ready: int, delivered: int, prefetch: int) -> int:
        """How many messages have left the queue otherwise since the last look, about; 0 while that is uncertain.

        `ready`: messages in the queue now; `delivered`: all that were ever received.

        Up to `prefetch` deliveries may be on their way while the broker answers; what it sends between its answer and
        our hearing of it is taken for half a look's deliveries at most.
        """
        rate, former = delivered - self._delivered, self._ready
        uncertain = prefetch + max(rate, self._rate) // 2
        self._ready, self._delivered, self._rate = ready, delivered, rate
        left = 0 if former is None else former - ready - rate
        return left if left > uncertain else 0

    def forget(self) -> None:
        """Others take messages, too: begin again."""
        self._ready = None
