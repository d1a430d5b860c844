"""Exit records of children that no master could wait for, and the file that remembers such children. Master only.

A child that died unrecorded gets a record with cause `lost` before anything is started, so that no message of it runs
again before its end is declared.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from supervisor.logs.events import Cause
from supervisor.master.exits.history import History
from supervisor.master.exits.process_groups import end_recorded_group
from supervisor.master.exits.records import EXITED, ExitRecord
from supervisor.master.host import files
from supervisor.master.pool.children import Child, Kind, child_name
from supervisor.master.pool.pool import Pool
from supervisor.scoreboard.words import Identity
from supervisor.system import posix
from supervisor.system.clock import rfc3339, wall_s

POLL_S = 0.1


class Service(msgspec.Struct, frozen=True):
    """A forkserver or consumer as `children.json` remembers it."""

    pool: str
    kind: Kind
    pid: int
    ticks: int
    generation: int
    boot_id: str


class Services:
    """`children.json`: the forkservers and consumers there are, for a next daemon (workers are in their slots)."""

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


def lost_services(services: Iterable[Service], history: History) -> list[ExitRecord]:
    """Records for the forkservers and consumers that a former daemon had when it died. What is left of them is killed
    (they die with their master, but perhaps not at once)."""
    lost = []
    for service in services:
        if service.boot_id == posix.boot_id():
            posix.signal_process(service.pid, service.ticks, signal.SIGKILL)
        if history.recorded(child_name(service.pool, service.kind, None)) < service.generation:
            lost.append(_record(service.pool, service.kind, None, service.pid, service.generation))
    return lost


def lost_worker(pool: Pool, number: int, identity: Identity) -> ExitRecord:
    """End what a worker of a former daemon, in the slot `number`, has left. Returns its record, made from its marks."""
    slot = pool.slots[number]
    end_recorded_group(slot)
    running = slot.running()
    record = _record(pool.name, Kind.WORKER, number, identity.pid, identity.generation)
    return msgspec.structs.replace(
        record,
        messages=slot.handled,
        message_id=running.message_id if running else "",
        attempt=running.run.attempt if running else None,
        run="in_doubt" if running else "idle",
    )


def _record(pool: str, kind: Kind, slot: int | None, pid: int, generation: int) -> ExitRecord:
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
