"""Questions about messages that only the consumers can answer, asked through the control socket. Master only.

The master has no ledger; it passes the question on and goes on with its work. A consumer that does not answer in time
(stopped, just being replaced) is named, so that an answer always comes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from supervisor.control import results
from supervisor.control.protocol import Pending
from supervisor.link.frames import Found, Frame
from supervisor.master.pool.consumer_channel import ConsumerChannel
from supervisor.master.pool.pool import Pool
from supervisor.system.reactor import Reactor

TIMEOUT_S = 3.0
"""How long consumers have for an answer."""


class Inquiry:
    """One question to the consumers of these pools; `answer` is completed when all have spoken, or time is over.

    `ask` makes the question's frame from the number that its answer carries.
    """

    def __init__(self, pools: Collection[Pool], ask: Callable[[int], Frame], reactor: Reactor) -> None:
        self.answer = Pending()
        self._reactor = reactor
        self._found: dict[str, results.FoundInPool] = {}
        self._timer = reactor.call_later(TIMEOUT_S, self._complete)
        self._open: dict[str, tuple[ConsumerChannel, int]] = {}
        for pool in pools:
            number = pool.consumer_channel.inquire(partial(self._hear, pool.name), ask)
            self._open[pool.name] = (pool.consumer_channel, number)

    def _hear(self, pool: str, frame: Found) -> None:
        self._found[pool] = results.FoundInPool(traces=frame.traces, why=frame.why, total=frame.total)
        del self._open[pool]
        if not self._open:
            self._reactor.remove_timeout(self._timer)
            self._complete()

    def _complete(self) -> None:
        for name, (channel, number) in self._open.items():
            channel.cancel_inquiry(number)
            why = f"its consumer did not answer within {TIMEOUT_S:g} s"
            self._found[name] = results.FoundInPool(traces=[], why=why)
        self._open.clear()
        self.answer.complete(results.Found(pools=self._found))
