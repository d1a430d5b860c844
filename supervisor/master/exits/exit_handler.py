"""From a reaped child to its cause, exit record, exit notice, replacement and log line, in this order. Master only.

`Reaping` is the duty: it has the children reaped (`reaper.py`), and their exits handled.

The exit notice is the only proof of death that a consumer accepts, and it lets the message run again: so it leaves only
when the record was written (or waits in memory because the disk is full, which the log has said).
"""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from supervisor.link.frames import ExitNotice, Incarnation
from supervisor.logs.events import Cause
from supervisor.logs.structured import log
from supervisor.master.exits.causes import Death, cause_of, run_of
from supervisor.master.exits.history import History
from supervisor.master.exits.oom import OomWatch
from supervisor.master.exits.reaper import ReapedChild, Reaper
from supervisor.master.limits import boots
from supervisor.master.pool.adoption import cancel_spawns
from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.exit_records import EXITED, ExitRecord
from supervisor.master.pool.owner import Owner
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import Lifetime, decide
from supervisor.master.pool.stand_ins import delay_notice
from supervisor.master.stop.stopping import DaemonStop
from supervisor.scoreboard.words import Intent
from supervisor.system import posix
from supervisor.system.clock import boottime_s, monotonic_s, rfc3339, wall_s
from supervisor.system.stacks import STACK_BYTES, users_frames

_OUR_KILLS = frozenset(
    {Intent.STOP_KILL, Intent.TIMEOUT_KILL, Intent.MEMORY_KILL, Intent.PROTOCOL_KILL, Intent.BOOT_KILL}
)
KERNEL_TIMER = "kernel timer"
"""In `requested_by` of the exit record of a worker that the kernel ended for the time of its run."""

_EXPECTED = frozenset({Cause.CLEAN_STOP, Cause.RECYCLED})


class ExitHandler:
    """Handles exits. `others`: the owners of children that belong to no pool, by kind. `tell` is called with each exit
    record, `replace_workers` to order the workers that are due."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        history: History,
        oom: OomWatch,
        others: Mapping[Kind, Owner],
        tell: Callable[[ExitRecord], None],
        replace_workers: Callable[[], None] = lambda: None,
    ) -> None:
        self._pools = pools
        self._others = others
        self._history = history
        self._oom = oom
        self._told = tell
        self._replace_workers = replace_workers
        self._random = random.Random()

    def register(self, reaped_children: Sequence[ReapedChild], stopping: bool = False) -> None:
        """Record these deaths, decide what follows, and only then tell the consumers. The log can wait for its turn:
        a worker that is due at once is ordered first. `stopping`: the daemon stops, so no child is replaced."""
        if not reaped_children:
            return
        # fail-point: master.reaped: the dead are waited for, nothing is decided
        deaths = [_death(reaped) for reaped in reaped_children]
        kills = sum(map(_needs_an_explanation, deaths))
        evidence = self._oom.evidence(kills)
        records = [
            self._handle(reaped, replace(death, oom_evidence=evidence), stopping)
            for reaped, death in zip(reaped_children, deaths, strict=True)
        ]
        delayed = [record for record, reaped in zip(records, reaped_children, strict=True) if reaped.delayed]
        self._pronounce(records, delayed)
        self._replace_workers()
        self._report(records)

    def publish(self, records: Sequence[ExitRecord]) -> None:
        """Write records and send the exit notices of workers, then log both."""
        self._pronounce(records)
        self._report(records)

    def _pronounce(self, records: Sequence[ExitRecord], delayed: Sequence[ExitRecord] = ()) -> None:
        """The records first: only a written death may have consequences. `delayed`: their exit notices wait."""
        for record in records:
            self._history.add(record)
            # fail-point: master.record-unwritten: the death is classified, its record in memory
        self._history.flush()
        for record in records:
            # fail-point: master.record-written: the record is written, neither log nor consumer has it
            if record.kind is not Kind.WORKER or record.slot is None or record.pool not in self._pools:
                continue
            pool, worker = self._pools[record.pool], Incarnation(record.slot, record.generation)
            exit_notice = ExitNotice(worker, record.cause, record.status, record.signal, record.stack)
            if record in delayed:
                delay_notice(pool, record.slot, exit_notice)
            else:
                pool.consumer_channel.owe(exit_notice)

    def _report(self, records: Sequence[ExitRecord]) -> None:
        for record in records:
            level = logging.INFO if record.cause in _EXPECTED else logging.WARNING
            log(record.event, record.summary, level=level, **record.fields())
            self._told(record)

    def _handle(self, reaped: ReapedChild, death: Death, stopping: bool) -> ExitRecord:
        """The steps of one exit: read the last frames, record, clear the child spec, decide about a replacement."""
        child = reaped.child
        owner = self._others.get(child.kind) or self._pools[child.pool]
        owner.disconnect(child)
        if child.kind is Kind.FORKSERVER:
            cancel_spawns(self._pools[child.pool], child, reaped.died_s)
        spec, cause = owner.spec_of(child), cause_of(death)
        record = _record(reaped, death, cause, _stack(spec, child, cause))
        if spec is None:
            return record
        spec.ended(None if cause in _EXPECTED else _why(record, spec.why), _incurable(record))
        life, replaced = _life(reaped, death, cause), not stopping and owner.wants(spec)
        if isinstance(owner, Pool):
            owner.account.exited(record, life.progressed, reaped.died_s, replaced)
        if not replaced:
            spec.not_replaced()
            return record
        delay_s = self._plan_replacement(owner, spec, record, life, reaped.died_s)
        return msgspec.structs.replace(record, restart_in_s=None if delay_s is None else round(delay_s, 3))

    def _plan_replacement(
        self, owner: Owner, spec: ChildSpec, record: ExitRecord, life: Lifetime, died_s: float
    ) -> float | None:
        """When the dead child is replaced, in seconds; None for not by itself."""
        was_held, dice = spec.held, self._random.random()
        decision = decide(record.cause, life, spec, owner.intensity, owner.config, died_s, dice, owner.boot_tries)
        delay_s = decision.delay_s
        if delay_s is None and record.kind is not Kind.WORKER:
            delay_s = 0.0  # it was killed so that another takes its place
        spec.replaced(None if delay_s is None else died_s + delay_s)
        if decision.hold:
            owner.held(spec, newly=not was_held)
        return delay_s


def _needs_an_explanation(death: Death) -> bool:
    return death.signal == signal.SIGKILL and death.intent not in _OUR_KILLS and not death.timer_due


def _death(reaped: ReapedChild) -> Death:
    """What its wait status and, of a worker, its slot say about a dead child."""
    child, slot = reaped.child, reaped.child.slot_file
    death = Death(child.kind, *Death.status_and_signal(reaped.wait_status), child.intent)
    identity = slot.identity() if slot is not None else None
    if slot is None or identity is None or identity.generation != child.generation:
        return death
    return replace(
        death,
        intent=slot.intent(child.generation),
        leaving=slot.leaving(child.generation),
        running=slot.running(),
        handled=slot.handled,
        untaken=any(cell.generation == child.generation for cell in slot.cells(slot.tail)),
        timer_due=0.0 < slot.end_s() <= boottime_s() - (monotonic_s() - reaped.died_s),
    )


def _record(reaped: ReapedChild, death: Death, cause: Cause, stack: str) -> ExitRecord:
    child, running = reaped.child, death.running
    return ExitRecord(
        at=rfc3339(wall_s()),
        event=EXITED[child.kind],
        kind=child.kind,
        pool=child.pool,
        slot=child.slot,
        pid=child.pid,
        generation=child.generation,
        cause=cause,
        status=death.status,
        signal=None if death.signal is None else posix.signal_name(death.signal),
        core_dumped=os.WCOREDUMP(reaped.wait_status),
        requested_by=child.requested_by or _requested_by(death, cause),
        uptime_s=round(reaped.died_s - child.started_s, 3),
        messages=death.handled,
        message_id=running.message_id if running else "",
        attempt=running.run.attempt if running else None,
        elapsed_s=round(reaped.died_s - running.started_s, 3) if running else None,
        limit_s=round(running.limit_s, 3) if running else None,
        limit_source=running.source.name.lower() if running else "",
        run=run_of(running is not None, death.untaken),
        max_rss_bytes=reaped.usage.ru_maxrss * 1024,
        cpu_user_s=round(reaped.usage.ru_utime, 4),
        cpu_system_s=round(reaped.usage.ru_stime, 4),
        oom_evidence=death.oom_evidence if cause is Cause.OUT_OF_MEMORY else "",
        stack=stack,
        unkillable=child.unkillable,
    )


def _requested_by(death: Death, cause: Cause) -> str:
    """What has ended a child that the master has not ended."""
    if cause is Cause.CLEAN_STOP:
        return "outside"
    return KERNEL_TIMER if cause is Cause.TIMEOUT and death.signal == signal.SIGKILL and death.timer_due else ""


def _stack(spec: ChildSpec | None, child: Child, cause: Cause) -> str:
    """The stacks at the end of a child that failed: those that it dumped, or that of its failed import."""
    if cause in _EXPECTED:
        return ""
    if child.slot is None and child.intent is not Intent.BOOT_KILL:
        return spec.stack if spec is not None and cause is Cause.BOOT_FAILED else ""
    if child.dump is not None:
        with suppress(OSError), child.dump.open("rb") as file:
            text = file.read(STACK_BYTES).decode(errors="replace")
            return users_frames(text) if child.kind is Kind.WORKER else text
    return ""


def _life(reaped: ReapedChild, death: Death, cause: Cause) -> Lifetime:
    """What this child has shown; a time limit ends a run as its handler would."""
    ready_s, timed_out = reaped.child.ready_s, cause is Cause.TIMEOUT and death.running is not None
    return Lifetime(
        ready_for_s=None if ready_s is None else reaped.died_s - ready_s,
        messages=death.handled + timed_out,
        asked=death.intent in (Intent.STOP, Intent.STOP_KILL),
    )


def _incurable(record: ExitRecord) -> bool:
    """Whether an operator must edit something: an import that failed, or a worker's reason in one line of ours. What an
    `init` raises (a stack) may heal by itself, as may what the broker refuses, or a boot that took too long."""
    if record.cause is not Cause.BOOT_FAILED or record.status is None:
        return False
    stack = record.stack.strip()
    return record.kind is Kind.FORKSERVER or (record.kind is Kind.WORKER and bool(stack) and "\n" not in stack)


def _why(record: ExitRecord, reported: str) -> str:
    """What a user reads about the child spec: the child's own words for a failed boot, else how it ended.

    `reported`: what a forkserver or consumer has said by itself; a worker says it in its stack.
    """
    if not record.pool:
        return (reported if record.cause is Cause.BOOT_FAILED else "") or record.summary
    if record.requested_by == boots.REQUESTED_BY:
        what = "its import hangs" if record.kind is Kind.FORKSERVER else "its `init` hangs, or its link socket is gone"
        return f"{record.child_name} was not ready within boot_timeout: {what}; see the stack of its exit record"
    if record.cause is Cause.BOOT_FAILED:
        last_line = record.stack.strip().rpartition("\n")[2] or record.ending
        said = "" if record.kind is Kind.WORKER else reported
        return said or f"{record.child_name} cannot boot: {last_line}"
    return record.summary


class Reaping:
    """The duty that handles exits: `turn` in each turn of the master, `finish` at the end of a stop."""

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
        for pool in self._pools:
            over = self._stop.under_way or pool.leaving  # it runs nothing any more
            for worker in pool.delayed_notices.workers:
                if over or not self._reaper.has_orphans(pool.name, worker.generation):
                    pool.consumer_channel.owe(pool.delayed_notices.release(worker.slot))
