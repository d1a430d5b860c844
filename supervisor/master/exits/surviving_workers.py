"""Workers that outlived a former daemon and still hold their slots. Master only.

Such a worker finishes its message and leaves. Its slot is filled again once its kernel lock is free, which alone proves
that it is dead; it is killed when it takes too long. Nothing here waits: `turn` looks, `due_s` says when to look again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from supervisor.errors import StateError
from supervisor.link.frames import Incarnation
from supervisor.master.exits.exit_handler import ExitHandler
from supervisor.master.exits.history import History
from supervisor.master.exits.process_groups import end_group
from supervisor.master.exits.records import ExitRecord
from supervisor.master.exits.recovery import Service, lost_services, lost_worker
from supervisor.master.pool.children import Kind, child_name
from supervisor.master.pool.pool import Pool
from supervisor.scoreboard.words import Identity
from supervisor.system import posix
from supervisor.system.clock import monotonic_s

POLL_S = 0.1


@dataclass
class Survivor:
    """A worker of a former daemon that still has its slot. `until_s`: when it is ended (CLOCK_MONOTONIC)."""

    pool: Pool
    number: int
    identity: Identity
    until_s: float

    @property
    def gone(self) -> bool:
        """Whether its lock is free: the only proof that it is dead."""
        return self.pool.slots[self.number].owner() is None

    def end(self) -> None:
        """Kill exactly this process and its group; no other process that has its pid by now."""
        end_group(self.identity.pid, self.identity.start_ticks)
        posix.signal_process(self.identity.pid, self.identity.start_ticks, signal.SIGKILL)


class Survivors:
    """All survivors of all pools, and the records of those that did not survive."""

    does = "follow workers of a former daemon"

    def __init__(self, history: History, exit_handler: ExitHandler, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._history = history
        self._exit_handler = exit_handler
        self._all: list[Survivor] = []

    @property
    def due_s(self) -> float:
        """When `turn` is needed next (CLOCK_MONOTONIC)."""
        return monotonic_s() + POLL_S if self._all else float("inf")

    def take_over(self, services: Iterable[Service], grace_s: float) -> None:
        """Put in order what a former daemon left, before any child is started.

        `grace_s`: how long its workers may take to finish. Raises StateError like `admit`.
        """
        # fail-point: master.start-unaware: what a former daemon left is not looked at
        lost = lost_services(services, self._history)
        for pool in self._pools.values():
            lost += self._take_stock(pool, grace_s)
        # fail-point: master.start-stock-taken: the lost are found, no record is written
        self._exit_handler.publish(lost)
        # fail-point: master.start-recorded: the lost are on record, no child is started
        for pool in self._pools.values():
            pool.consumer_channel.drop_exit_notices()
            pool.close_unused_slots()

    def admit(self, pool: Pool, grace_s: float) -> None:
        """Take a pool in that a reload added: a former daemon may have had it, too.

        Raises StateError for a slot whose lock is held by a process that is no worker.
        """
        self._exit_handler.publish(self._take_stock(pool, grace_s))
        pool.consumer_channel.drop_exit_notices()

    def turn(self, now_s: float) -> None:
        """Record those that are gone, end those that are overdue; forget those of pools that were removed."""
        for survivor in list(self._all):
            if self._pools.get(survivor.pool.name) is not survivor.pool:
                self._all.remove(survivor)
            elif survivor.gone:
                self._all.remove(survivor)
                survivor.pool.survivor_gone(survivor.number)
                self._exit_handler.publish([lost_worker(survivor.pool, survivor.number, survivor.identity)])
            elif now_s >= survivor.until_s:
                survivor.end()

    def _take_stock(self, pool: Pool, grace_s: float) -> list[ExitRecord]:
        """The slots of a pool: records for the dead without one; the living are remembered."""
        lost = []
        for number, slot in pool.slots.items():
            identity = slot.identity()
            if slot.owner() is not None:
                self._remember(pool, number, identity, monotonic_s() + grace_s)
            elif identity is not None and self._recorded(pool, number) < identity.generation:
                lost.append(lost_worker(pool, number, identity))
        return lost

    def _remember(self, pool: Pool, number: int, identity: Identity | None, until_s: float) -> None:
        if identity is None:
            raise StateError(
                f"{pool.slots[number].path}: locked by pid {pool.slots[number].owner()}, which is no worker of this "
                "daemon; end that process"
            )
        pool.held_by_survivor(Incarnation(number, identity.generation))
        self._all.append(Survivor(pool, number, identity, until_s))

    def _recorded(self, pool: Pool, number: int) -> int:
        return self._history.recorded(child_name(pool.name, Kind.WORKER, number))
