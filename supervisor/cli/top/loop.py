"""The loop of a live view: ask the daemon when it is time, draw, wait for answers, keys and signals. No threads.

A daemon that does not answer, or is not there, never stops it: it says so and goes on asking.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from supervisor.cli.top.desk import AsyncClient
from supervisor.cli.top.display import Display
from supervisor.cli.top.frame import Size
from supervisor.cli.top.lines import Line
from supervisor.control.protocol import Facts
from supervisor.errors import ControlError
from supervisor.quantities import show_seconds
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor
from supervisor.system.stored_signals import StoredSignals

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORED = (*ENDS, signal.SIGTSTP, signal.SIGWINCH)

INTERVAL_S = 1.0
SHORTEST_S = 0.1
"""The shortest interval: people read no faster, and the daemon has other work."""

RETRY_S = 1.0
SILENT_S = 2.0
"""After this long without an answer the view says that it is an old one."""


class Page(Protocol):
    """What is shown: it takes in what the daemon says."""

    def heard(self, facts: Facts) -> None:
        """The daemon's status, just answered. Raises ControlError for one of another version."""

    def missed(self, trouble: str) -> None:
        """Why there is no new status."""

    def lines(self, size: Size) -> Sequence[Line]:
        """The screen."""


class Loop:
    """One live view from its beginning to its end."""

    def __init__(self, runtime_dir: Path, display: Display, page: Page, interval_s: float) -> None:
        self._display = display
        self._page = page
        self._interval_s = max(interval_s, SHORTEST_S)
        self._reactor = Reactor()
        self._desk = AsyncClient(runtime_dir, self._reactor)
        self._interrupts: Interrupts | None = None
        self._asked_s = 0.0
        self._due_s = monotonic_s()
        self._ended_by = 0
        self._fresh = False
        self._over = False

    def run(self) -> int:
        """Run until the user quits, and return 0. A signal that asked for the end ends the process."""
        with ExitStack() as stack:
            stack.callback(self._reactor.close)
            stack.callback(self._desk.close)
            if self._display.live:
                self._interrupts = Interrupts(self._reactor)
                stack.callback(self._interrupts.close)
            stack.callback(self._display.leave)
            self._display.enter()
            self._listen()
            while not (self._over or self._ended_by):
                self.turn()
        if self._ended_by not in (0, signal.SIGINT):
            die_of(self._ended_by)
        return 0

    def turn(self) -> None:
        """One pass."""
        self._look()
        self._draw()
        self._reactor.poll(self._sleep_s())
        self._obey_signals()

    # ---- looking ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now_s = monotonic_s()
        if self._desk.waiting:
            if now_s - self._asked_s >= SILENT_S and now_s >= self._due_s:
                self._missed(f"the daemon has not answered for {show_seconds(float(int(now_s - self._asked_s)))}")
        elif now_s >= self._due_s:
            self._asked_s = now_s
            self._desk.ask("status", {}, [self._heard], lambda error: self._missed(words_of(error)))

    def _heard(self, facts: Facts) -> None:
        self._fresh = True
        self._due_s = max(self._asked_s + self._interval_s, monotonic_s())
        try:
            self._page.heard(facts)
        except ControlError as error:
            self._missed(words_of(error))

    def _missed(self, trouble: str) -> None:
        self._fresh = True
        self._due_s = monotonic_s() + RETRY_S
        self._page.missed(trouble)

    def _sleep_s(self) -> float:
        return min(RETRY_S, max(0.0, self._due_s - monotonic_s())) if not self._desk.waiting else RETRY_S

    # ---- showing ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """There are no keys here."""

    def _draw(self) -> None:
        if self._display.live or self._fresh:
            self._display.show(self._page.lines(self._display.size()))
        self._fresh = False

    def _obey_signals(self) -> None:
        for number in self._interrupts.take() if self._interrupts else ():
            if number in ENDS:
                self._ended_by = number
            elif number == signal.SIGTSTP and self._interrupts:
                self._display.leave()
                self._interrupts.suspend()
                self._display.enter()


def words_of(error: ControlError) -> str:
    """An error on one line."""
    return " ".join(str(error).split())


class Interrupts(StoredSignals):
    """The signals that reach a live view, stored from the moment this is made until `close()`."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, _STORED)

    def suspend(self) -> None:
        """Stop this process until it is sent SIGCONT."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._store)


def die_of(number: int) -> None:
    """End this process by the signal it was sent, as its parent expects; the terminal was given back before."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(signal.Signals(number))
