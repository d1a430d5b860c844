"""The loop of a live view: ask the daemon when it is time, draw, wait for answers, keys and signals. No threads.

A daemon that does not answer, or is not there, never stops it: it says so and goes on asking.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from supervisor.cli.top.columns import BAD, NOTE
from supervisor.cli.top.display import Display
from supervisor.cli.top.keys import read_keys
from supervisor.cli.top.pages import StatusPage, TopPage
from supervisor.control.client import ControlClient
from supervisor.control.protocol import Facts
from supervisor.errors import ControlError
from supervisor.quantities import show_seconds
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, StoredSignals

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORED = (*ENDS, signal.SIGTSTP, signal.SIGWINCH)

SHORTEST_S = 0.1
"""The shortest interval: people read no faster, and the daemon has other work."""

RETRY_S = 1.0
SILENT_S = 2.0
"""After this long without an answer the view says that it is an old one."""

CONNECT_S = 2.0
"""A daemon that takes no connection for this long (stopped, and its backlog full) is told as one that is silent."""

_REST_S = 2.0  # an answer that has begun to arrive is there within this

Heard = Callable[[Facts], object]
Refused = Callable[[str], object]


class Loop:
    """One live view from its beginning to its end. A `TopPage` is given the keys."""

    def __init__(self, runtime_dir: Path, display: Display, page: StatusPage | TopPage, interval_s: float) -> None:
        self._display = display
        self._page = page
        self._operated = page if isinstance(page, TopPage) else None
        self._interval_s = max(interval_s, SHORTEST_S)
        self._reactor = Reactor()
        self._looks = AsyncClient(runtime_dir, self._reactor)
        self._orders = AsyncClient(runtime_dir, self._reactor)
        self._interrupts: StoredSignals | None = None
        self._asked_s = 0.0
        self._due_s = monotonic_s()
        self._ended_by = 0
        self._fresh = False
        self._over = False

    def run(self) -> int:
        """Run until the user quits, and return 0. A signal that asked for the end ends the process."""
        with ExitStack() as stack:
            stack.callback(self._reactor.close)
            stack.callback(self._looks.close)
            stack.callback(self._orders.close)
            if self._display.live:
                self._interrupts = StoredSignals(self._reactor, _STORED)
                stack.callback(self._interrupts.close)
            stack.callback(self._display.leave)
            self._display.enter()
            if self._display.keys and (page := self._operated):
                self._reactor.add_handler(sys.stdin, lambda fd, events: self._typed(page), self._reactor.READ)
            while not (self._over or self._ended_by):
                self.turn()
        if self._ended_by not in (0, signal.SIGINT):
            _as_by_default(self._ended_by)  # the terminal has been given back
        return 0

    def turn(self) -> None:
        """One pass."""
        self._look()
        self._draw()
        self._reactor.poll(RETRY_S if self._looks.waiting else min(RETRY_S, max(0.0, self._due_s - monotonic_s())))
        self._obey_signals()

    # ---- looking ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now_s = monotonic_s()
        if now_s < self._due_s:
            return
        if not self._looks.waiting:
            self._asked_s = now_s
            self._looks.ask("status", {}, [self._heard], self._missed)
        elif now_s - self._asked_s >= SILENT_S:
            waited = show_seconds(float(int(now_s - self._asked_s)))
            self._missed(f"the daemon has not answered for {waited}")

    def _heard(self, facts: Facts) -> None:
        self._fresh = True
        self._due_s = max(self._asked_s + self._interval_s, monotonic_s())
        try:
            self._page.heard(facts)
        except ControlError as error:
            self._missed(_on_one_line(error))
        if self._operated is not None and not self._orders.waiting:
            self._operated.settled()

    def _missed(self, trouble: str) -> None:
        self._fresh = True
        self._due_s = monotonic_s() + RETRY_S
        self._page.missed(trouble)

    def _draw(self) -> None:
        if self._display.live or self._fresh:
            self._display.show(self._page.draw(self._display.size()))
        self._fresh = False

    # ---- keys and signals -------------------------------------------------------------------------------------------

    def _typed(self, page: TopPage) -> None:
        typed = self._display.read()
        for key in read_keys(typed):
            if (order := page.pressed(key, self._display.size())) is not None:
                heard = [partial(self._answered, page, words) for words in order.told]
                self._orders.ask(order.verb, order.arguments, heard, partial(self._say, page, style=BAD))
        self._over = page.over or not typed  # the terminal has gone

    def _answered(self, page: TopPage, words: Callable[[Facts], str], answer: Facts) -> None:
        self._say(page, words(answer), NOTE)

    def _say(self, page: TopPage, words: str, style: str) -> None:
        page.say(words, style)
        self._due_s = monotonic_s()  # what was ordered is to be seen at once

    def _obey_signals(self) -> None:
        for number in self._interrupts.take() if self._interrupts else ():
            if number in ENDS:
                self._ended_by = number
            elif number == signal.SIGTSTP:
                self._display.leave()
                _as_by_default(number)
                self._display.enter()


class AsyncClient:
    """Requests that the loop does not wait for: answers come as callbacks.

    Each request has a connection of its own, so that a reload under way keeps nothing else from being asked.
    """

    def __init__(self, runtime_dir: Path, reactor: Reactor) -> None:
        self._runtime_dir = runtime_dir
        self._reactor = reactor
        self._open: list[ControlClient] = []

    @property
    def waiting(self) -> int:
        """How many requests wait for an answer."""
        return len(self._open)

    def ask(self, verb: str, arguments: Mapping[str, Any], heard: Sequence[Heard], refused: Refused) -> None:
        """Ask the daemon. `heard`: called with one answer each; `refused`: instead, with the reason."""
        try:
            client = ControlClient(self._runtime_dir, CONNECT_S)
        except ControlError as error:
            refused(_on_one_line(error))
            return
        self._open.append(client)
        left = list(heard)
        self._reactor.add_handler(client, lambda fd, events: self._hear(client, left, refused), self._reactor.READ)
        try:
            client.send(verb, **arguments)
        except ControlError as error:
            self._hang_up(client)
            refused(_on_one_line(error))

    def close(self) -> None:
        """Wait for nothing any more."""
        for client in list(self._open):
            self._hang_up(client)

    def _hear(self, client: ControlClient, left: list[Heard], refused: Refused) -> None:
        try:
            answer = client.next_answer(_REST_S)
        except ControlError as error:
            self._hang_up(client)
            refused(_on_one_line(error))
            return
        then = left.pop(0)
        if not left:
            self._hang_up(client)
        elif client.heard:
            self._reactor.add_callback(lambda: self._hear(client, left, refused))
        then(answer)

    def _hang_up(self, client: ControlClient) -> None:
        self._open.remove(client)
        self._reactor.remove_handler(client)
        client.close()


def _on_one_line(error: ControlError) -> str:
    return " ".join(str(error).split())


def _as_by_default(number: int) -> None:
    """Let a signal do what it does to any program, as the parent expects: end the process, or stop it for a while."""
    stored = signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(signal.Signals(number))
    signal.signal(number, stored)
