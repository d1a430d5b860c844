"""Looks for other consumers of a pool's queue, for a pool with `exclusive = true`: before a subscription and after it.

Runs in the consumer. RabbitMQ refuses a second exclusive consumer of a classic queue. On a quorum queue it ignores the
flag (3.10 and 4.0), so two daemons that subscribe at the same moment both succeed. Each of them then counts two
consumers, and gives way. A former subscription of this consumer with unsettled deliveries counts on quorum queues only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.brokers.amqp.questions import QueryChannel, Questions, Refusal, declare
from supervisor.system.reactor import Reactor, Timer

AGAIN_S = 1.0
"""The time between two looks. A consumer that renews its subscription has none for a moment, and a broker counts a
subscription whose last delivery was settled just now: a single look may be wrong."""


class Rivals:
    """Of `queue`, asked about on `channel`. `counts_former`: whether the broker counts former subscriptions.

    `after_s`: the wait before the first look, in seconds; for a queue that had another consumer a moment ago.
    """

    def __init__(
        self,
        reactor: Reactor,
        channel: QueryChannel,
        queue: str,
        counts_former: Callable[[], bool],
        after_s: float = 0.0,
    ) -> None:
        self._reactor = reactor
        self._channel = channel
        self._queue = queue
        self._counts_former = counts_former
        self._after_s = after_s
        self._number = 0
        self._timer: Timer | None = None

    def look(self, own: int, former: Callable[[], int], done: Callable[[bool], object]) -> None:
        """Call `done` with whether there are other consumers; a call that is not over yet is dropped.

        `own`: the number of this consumer's subscriptions; `former`: of its former ones with unsettled deliveries.
        Others are found by two looks in a row. An answer that lacks this consumer's subscription is not one (a quorum
        queue without a leader): the look is repeated.
        """
        self.close()
        self._number += 1
        number, found_before = self._number, False

        def counted(answer: Any) -> None:
            nonlocal found_before
            if number != self._number:
                return
            consumers = 0 if isinstance(answer, Refusal) else answer.method.consumer_count
            others = consumers - own - (former() if self._counts_former() else 0)
            if consumers < own:
                self._timer = self._reactor.call_later(AGAIN_S, ask)
            elif others > 0 and not found_before:
                found_before = True
                self._timer = self._reactor.call_later(AGAIN_S, ask)
            else:
                done(others > 0)

        def ask() -> None:
            self._timer = None
            if self._channel.connection.is_open:
                self._channel.ask(self._count(), counted)

        if self._after_s:
            self._timer = self._reactor.call_later(self._after_s, ask)
            self._after_s = 0.0
        else:
            ask()

    def close(self) -> None:
        """Drop the look that is not over."""
        self._number += 1
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
            self._timer = None

    def _count(self) -> Questions:
        return (yield declare(self._queue, passive=True))
