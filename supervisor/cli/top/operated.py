"""The loop of a live view whose keys are listened to: keys become orders, and what the daemon says to them is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from supervisor.cli.top.desk import AsyncClient
from supervisor.cli.top.display import Display
from supervisor.cli.top.keys import Order, read_keys
from supervisor.cli.top.loop import Loop, words_of
from supervisor.cli.top.page import TopPage
from supervisor.control.protocol import Facts
from supervisor.errors import ControlError
from supervisor.system.clock import monotonic_s


class OperatedLoop(Loop):
    """See the head of this file."""

    def __init__(self, runtime_dir: Path, display: Display, page: TopPage, interval_s: float) -> None:
        super().__init__(runtime_dir, display, page, interval_s)
        self._operated = page
        self._orders = AsyncClient(runtime_dir, self._reactor)

    def _listen(self) -> None:
        if self._display.keys:
            self._reactor.add_handler(sys.stdin, self._typed, self._reactor.READ)

    def _heard(self, facts: Facts) -> None:
        super()._heard(facts)
        if not self._orders.waiting:
            self._operated.settled()

    def _typed(self, fd: int, events: int) -> None:
        typed = self._display.read()
        for key in read_keys(typed):
            order = self._operated.pressed(key, self._display.size())
            if order is not None:
                self._give(order)
        self._over = self._operated.over or not typed  # the terminal has gone

    def _give(self, order: Order) -> None:
        def teller(told: Callable[[Facts], str]) -> Callable[[Facts], None]:
            return lambda answer: self._tell(told(answer))

        self._orders.ask(order.verb, order.arguments, [teller(told) for told in order.told], self._refused)

    def _tell(self, words: str) -> None:
        self._operated.told(words)
        self._due_s = monotonic_s()  # what was ordered is to be seen at once

    def _refused(self, error: ControlError) -> None:
        self._operated.refused(words_of(error))
        self._due_s = monotonic_s()
