"""The duty that handles exits: reaps children, records and replaces them, tells their consumers. Master only."""

from __future__ import annotations

from collections.abc import Collection

from supervisor.master.exits.exit_handler import ExitHandler
from supervisor.master.exits.reaper import ReapedChild, Reaper
from supervisor.master.pool.pool import Pool
from supervisor.master.stop.stopping import DaemonStop


class Reaping:
    """`turn` in each turn of the master, `finish` at the end of a stop."""

    does = "reap children"

    def __init__(self, reaper: Reaper, exit_handler: ExitHandler, pools: Collection[Pool], stop: DaemonStop) -> None:
        self._reaper = reaper
        self._exit_handler = exit_handler
        self._pools = pools
        self._stop = stop

    @property
    def due_s(self) -> float:
        """When `turn` is needed next without a SIGCHLD (CLOCK_MONOTONIC)."""
        return self._reaper.due_s

    def turn(self, now_s: float) -> None:
        """Handle the exits of children whose orphans have ended, or had the time for it."""
        self._handle(self._reaper.reap())

    def finish(self) -> None:
        """Handle the exits that still wait for orphans: each death gets its record."""
        self._handle(self._reaper.give_up())

    def _handle(self, reaped_children: list[ReapedChild]) -> None:
        self._exit_handler.register(reaped_children, self._stop.under_way)
        self._exit_handler.release(self._reaper.released())
        for pool in self._pools:
            if self._stop.under_way or pool.leaving:
                self._exit_handler.release_all(pool)
