"""What a former daemon has left: workers that outlived it, and children that died while no master waited for them.

Master only. A child that died unrecorded gets a record with cause `lost` before anything is started, so that no message
of it runs again before its end is declared.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from supervisor.errors import StateError
from supervisor.link.frames import Incarnation
from supervisor.logs.events import Cause
from supervisor.master.exits.causes import run_of
from supervisor.master.exits.exit_handler import ExitHandler
from supervisor.master.exits.history import History
from supervisor.master.exits.orphans import end_group, end_recorded_group
from supervisor.master.host import files
from supervisor.master.pool.children import Child, Kind, child_name
from supervisor.master.pool.exit_records import EXITED, ExitRecord
from supervisor.master.pool.pool import Pool
from supervisor.scoreboard.words import Identity
from supervisor.system import posix
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.system.processes import command_line

POLL_S = 0.1
TITLE = "preforkd: master"
"""Of each master."""


class Service(msgspec.Struct, frozen=True):
    """A child that is no worker, as `children.json` remembers it."""

    pool: str
    kind: Kind
    pid: int
    ticks: int
    generation: int
    boot_id: str


class Services:
    """`children.json`: forkservers, consumers and sidecars, for a next daemon. Workers are in their slots."""

    does = "remember its children"
    due_s = float("inf")

    def __init__(self, state_dir: Path, children: Iterable[Child]) -> None:
        self._children = children
        self._path = state_dir / "children.json"
        self._written: list[Service] = []
        self._boot_id = posix.boot_id()

    def former(self) -> list[Service]:
        """Those of the last daemon; [] when it stopped in order (or the file is damaged: they are dead either way)."""
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._path.read_bytes(), type=list[Service])
        return []

    def turn(self, now_s: float) -> None:
        """Write down which ones are there, when that has changed; on a full disk, the next turn tries again."""
        now = [self._service(child) for child in self._children if child.kind is not Kind.WORKER]
        if now == self._written:
            return
        with suppress(OSError):
            # fail-point: master.start-services-unwritten: services were started or reaped, children.json is old
            files.replace(self._path, msgspec.json.encode(now))
            # fail-point: master.start-services-written: children.json is true
            self._written = now

    def _service(self, child: Child) -> Service:
        return Service(child.pool, child.kind, child.pid, child.ticks, child.generation, self._boot_id)


@dataclass(frozen=True)
class Survivor:
    """A worker of a former daemon that still has its slot. `until_s`: when it is ended (CLOCK_MONOTONIC)."""

    pool: Pool
    number: int
    identity: Identity
    until_s: float


class Survivors:
    """All survivors of all pools, and the records of those that did not survive.

    A survivor finishes its message and leaves. Its slot is filled again once its kernel lock is free, which alone
    proves that it is dead; it is killed when it takes too long. Nothing here waits.
    """

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

    def take_over(self, services: Sequence[Service], grace_s: float) -> None:
        """Put in order what a former daemon left, before any child is started.

        `grace_s`: how long its workers may take to finish. Raises StateError like `admit`, and where that daemon lives.
        """
        _refuse_copy(services)
        # fail-point: master.start-unaware: what a former daemon left is not looked at
        lost = list(self._lost_services(services))
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
            pool, number, identity = survivor.pool, survivor.number, survivor.identity
            if self._pools.get(pool.name) is not pool:
                self._all.remove(survivor)
            elif pool.slots[number].owner() is None:
                self._all.remove(survivor)
                pool.survivor_gone(number)
                self._exit_handler.publish([_lost_worker(pool, number, identity)])
            elif now_s >= survivor.until_s:  # exactly this process and its group, no other that has its pid by now
                end_group(identity.pid, identity.start_ticks)
                posix.signal_process(identity.pid, identity.start_ticks, signal.SIGKILL)

    def _lost_services(self, services: Iterable[Service]) -> Iterator[ExitRecord]:
        """Records for the forkservers and consumers that a former daemon had when it died. What is left of them is
        killed (they die with their master, but perhaps not at once)."""
        for service in services:
            if service.boot_id == posix.boot_id():
                posix.signal_process(service.pid, service.ticks, signal.SIGKILL)
            if self._history.recorded(child_name(service.pool, service.kind, None)) < service.generation:
                yield _lost(service.pool, service.kind, None, service.pid, service.generation)

    def _take_stock(self, pool: Pool, grace_s: float) -> list[ExitRecord]:
        """The slots of a pool: records for the dead without one; the living are remembered."""
        lost = []
        for number, slot in pool.slots.items():
            identity, owner = slot.identity(), slot.owner()
            if owner is not None and identity is None:
                raise StateError(
                    f"{slot.path}: locked by pid {owner}, which is no worker of this daemon; end that process"
                )
            if identity is None:
                continue
            if owner is not None:
                pool.held_by_survivor(Incarnation(number, identity.generation))
                self._all.append(Survivor(pool, number, identity, monotonic_s() + grace_s))
            elif self._history.recorded(child_name(pool.name, Kind.WORKER, number)) < identity.generation:
                lost.append(_lost_worker(pool, number, identity))
        return lost


def _refuse_copy(services: Iterable[Service]) -> None:
    """Raise StateError if a daemon lives whose children these are: it has another state directory, and its lock.

    So this directory is a copy, and its record of children must not be taken for that of a dead daemon.
    """
    for service in services:
        if service.boot_id != posix.boot_id() or not posix.is_the_one(service.pid, service.ticks):
            continue
        master = posix.parent(service.pid)
        if master != os.getpid() and command_line(master) == TITLE and not posix.is_dying(master):
            raise StateError(
                f"the state directory is a copy of that of a running daemon (pid {master}), and does not know what "
                "that daemon has done since: stop that daemon and move its directory, or begin with an empty one"
            )


def _lost_worker(pool: Pool, number: int, identity: Identity) -> ExitRecord:
    """End what a worker of a former daemon, in the slot `number`, has left. Returns its record, made from its marks."""
    slot = pool.slots[number]
    end_recorded_group(slot)
    running = slot.running()
    return msgspec.structs.replace(
        _lost(pool.name, Kind.WORKER, number, identity.pid, identity.generation),
        messages=slot.handled,
        message_id=running.message_id if running else "",
        attempt=running.run.attempt if running else None,
        run=run_of(running is not None, untaken=False),
    )


def _lost(pool: str, kind: Kind, slot: int | None, pid: int, generation: int) -> ExitRecord:
    return ExitRecord(
        at=rfc3339(wall_s()),
        event=EXITED[kind],
        kind=kind,
        pool=pool,
        slot=slot,
        pid=pid,
        generation=generation,
        cause=Cause.LOST,
    )
