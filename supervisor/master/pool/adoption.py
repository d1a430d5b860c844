"""Takes new children into the books; workers that a forkserver has forked, by what their slots say. Master only."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.link.frames import Incarnation, Spawned
from supervisor.master.pool.children import Child, ChildSpec
from supervisor.master.pool.pool import Pool
from supervisor.system import posix


def enter(pool: Pool, spec: ChildSpec, pid: int, generation: int, now_s: float) -> Child:
    """Take a new process into the books as the child of `spec`."""
    ticks = posix.start_ticks(pid) or 0
    slot_file = None if spec.slot is None else pool.slots[spec.slot]
    named = (pool.name, spec.kind, spec.slot, pid, ticks, generation, now_s)
    dump = pool.dir / "stacks" / f"{spec.kind if spec.slot is None else spec.slot}.txt"
    child = Child(*named, origin=spec.origin, slot_file=slot_file, dump=dump)
    pool.enter(spec, child)
    return child


def adopt(pool: Pool, number: int, now_s: float) -> Child | None:
    """Take the worker that has this slot into the books; None when it is there already or not our child.

    The slot is the only proof needed: a worker writes its identity before its fork is reported. One of the present
    order may have its intermediate for a parent still, which is ending and leaves it to us. Where /proc cannot be read
    just now, the generation of the present order is proof enough: no other worker has it.
    """
    spec = pool.worker(number)
    identity = pool.slots[number].identity() if spec is not None else None
    if spec is None or identity is None or identity.pid in pool.children:
        return None
    ordered = spec.ordered == identity.generation
    known = posix.is_the_one(identity.pid, identity.start_ticks)
    if known is False or (known is None and not ordered):
        return None
    if not ordered:  # a late child of an order that was void
        if not posix.is_child(identity.pid):
            return None
        pool.consumer_channel.send(Spawned(Incarnation(number, identity.generation)))
    return enter(pool, spec, identity.pid, identity.generation, now_s)


def adopt_process(pools: Iterable[Pool], pid: int, now_s: float) -> Child | None:
    """Take the worker with this pid into the books; None when no slot names it, or as `adopt`."""
    for pool in pools:
        number = pool.slots.find(pid)
        if number is not None:
            return adopt(pool, number, now_s)
    return None


def cancel_spawns(pool: Pool, forkserver: Child, now_s: float) -> None:
    """Cancel the spawns pending at a dead forkserver; adopt the workers that it had forked."""
    for spec in pool.workers:
        if spec.ordered is None or spec.slot is None or spec.origin != forkserver.generation:
            continue
        if adopt(pool, spec.slot, now_s) is None:
            spec.not_started(now_s)
