"""Turns on their way to the disk: written at once, carried out once they are durable. One at a time.

While the disk is at one, what is decided meanwhile waits in the settlement, and shares the next commit.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from supervisor.consumer.observe.measures import Measures
from supervisor.consumer.turn.actions import Say, Turn
from supervisor.ledger.base import Ledger
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.scoreboard.slot import Slot
from supervisor.system.clock import monotonic_s

SLOW_COMMIT_S = 1.0


class Commit(NamedTuple):
    """One turn. `tails`: of the workers' rings, as far as its rows reach; `begun_s`: CLOCK_MONOTONIC."""

    turn: Turn
    tails: dict[Slot, int]
    begun_s: float


class Commits:
    """`begun` and `done` count turns; `counters` are those of the ledger and what has been counted since."""

    def __init__(self, ledger: Ledger, measures: Measures) -> None:
        self.counters = ledger.counters()
        self.begun = self.done = 0
        self._ledger = ledger
        self._measures = measures
        self._under_way: Commit | None = None
        self._told = False
        self._uncommitted: dict[str, int] = {}

    @property
    def under_way(self) -> bool:
        """Whether a turn is not durable yet, or has not been carried out."""
        return self._under_way is not None

    @property
    def held_up(self) -> bool:
        """Whether the disk has been at the turn under way for so long that it must not be given more to do."""
        return self.under_way and self._told

    def begin(self, turn: Turn, tails: dict[Slot, int]) -> None:
        """Say it, then one commit for all its rows; counters alone wait for the next one. Raises LedgerError."""
        for saying in turn.said:
            _say(saying)
        self._under_way, self._told = Commit(turn, tails, monotonic_s()), False
        self.begun += 1
        for name, by in turn.counters.items():
            self.counters[name] = self.counters.get(name, 0) + by
            self._uncommitted[name] = self._uncommitted.get(name, 0) + by
        if turn.rows:
            # fail-point: consumer.decided: decided, not durable
            self._ledger.begin_commit(turn.rows, self._uncommitted)
            self._uncommitted = {}

    def take(self) -> Commit | None:
        """The turn under way once it is durable: to be carried out now. Raises LedgerError when it never will be."""
        commit = self._under_way
        if commit is None:
            return None
        durable = self._ledger.durable
        if commit.turn.rows:
            self._time(monotonic_s() - commit.begun_s, durable)
        if not durable:
            return None
        self._under_way = None
        self.done += 1
        return commit

    def _time(self, took_s: float, durable: bool) -> None:
        if durable:
            self._measures.commit_s.add(took_s)
        if took_s > SLOW_COMMIT_S and not self._told:
            self._told = True
            took = f"took {took_s:.1f} s" if durable else f"has not ended for {took_s:.1f} s"
            text = f"a ledger commit {took}: the disk is slow, and so is every message"
            log(Event.LEDGER_SLOW, text, level=logging.WARNING, seconds=round(took_s, 3))


def _say(saying: Say) -> None:
    level = logging.WARNING if saying.warning else logging.INFO
    log(saying.event, saying.text, level=level, **saying.fields)
