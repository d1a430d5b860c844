"""From a buried child to its exit record, its replacement and its verdict, in this order. Master only.

The verdict is the only proof of death that a consumer accepts, and it lets the message run again: so it leaves only
when the record was written (or waits in memory because the disk is full, which the log has said).
"""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from supervisor.link.frames import ExitNotice, Incarnation
from supervisor.logs.events import Cause
from supervisor.logs.structured import log
from supervisor.master.exits.causes import Death, cause_of, run_of
from supervisor.master.exits.history import History
from supervisor.master.exits.oom import OomWatch
from supervisor.master.exits.reaper import ReapedChild
from supervisor.master.exits.records import EXITED, ExitRecord
from supervisor.master.limits import boots
from supervisor.master.pool.children import SIDECARS, Child, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.restarts import BOOT_TRIES, Life, decide
from supervisor.master.reload.scaling import keep
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.scoreboard.words import Intent, LeavingReason, Running
from supervisor.system import posix
from supervisor.system.clock import rfc3339, wall_s

_OUR_KILLS = frozenset(
    {Intent.STOP_KILL, Intent.TIMEOUT_KILL, Intent.MEMORY_KILL, Intent.PROTOCOL_KILL, Intent.BOOT_KILL}
)
_EXPECTED = frozenset({Cause.CLEAN_STOP, Cause.RECYCLED})


@dataclass(frozen=True)
class Marks:
    """What a dead worker's slot says about it; nothing for the other kinds."""

    intent: Intent
    leaving: LeavingReason | None = None
    running: Running | None = None
    handled: int = 0
    untaken: bool = False


class ExitHandler:
    """Registers deaths. `replace`: orders the workers that are due."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        history: History,
        oom: OomWatch,
        sidecars: Sidecars,
        replace: Callable[[], None] = lambda: None,
    ) -> None:
        self._pools = pools
        self._sidecars = sidecars
        self._history = history
        self._oom = oom
        self._replace = replace
        self._random = random.Random()

    def register(self, reaped_children: Sequence[ReapedChild], stopping: bool = False) -> None:
        """Record these deaths, decide what follows, and only then tell the consumers. The log can wait for its turn:
        a worker that is due at once is ordered first. `stopping`: the daemon stops, so no child is replaced."""
        if not reaped_children:
            return
        # fail-point: master.buried: the dead are waited for, nothing is decided
        marked = [(reaped, self._read_marks(reaped.child)) for reaped in reaped_children]
        evidence = self._oom_evidence(marked)
        records = [self._record(reaped, marks, evidence, stopping) for reaped, marks in marked]
        self._pronounce(records, [reaped.child for reaped, _marks in marked if reaped.kept])
        self._replace()
        self._report(records)

    def publish(self, records: Sequence[ExitRecord]) -> None:
        """Write records and give the verdicts on workers, then say all this in the log."""
        self._pronounce(records)
        self._report(records)

    def release(self, children: Iterable[Child]) -> None:
        """Give the verdicts that have waited for orphans of these workers."""
        for child in children:
            pool = self._pools.get(child.pool)
            if pool is not None and child.slot is not None and pool.kept.has(child.slot, child.generation):
                self._give(pool, pool.kept.let_go(child.slot))

    def release_all(self, pool: Pool) -> None:
        """Give all verdicts that wait: this pool runs nothing any more."""
        for slot in pool.kept:
            self._give(pool, pool.kept.let_go(slot))

    def _pronounce(self, records: Sequence[ExitRecord], kept: Sequence[Child] = ()) -> None:
        """The records first: only a written death may have consequences. `kept`: their verdicts wait."""
        waiting = {(child.pool, child.slot, child.generation) for child in kept}
        for record in records:
            self._history.add(record)
            # fail-point: master.record-unwritten: the death is classified, its record in memory
        self._history.flush()
        for record in records:
            # fail-point: master.record-written: the record is written, neither log nor consumer has it
            if record.kind is Kind.WORKER and record.pool in self._pools and record.slot is not None:
                keeps = (record.pool, record.slot, record.generation) in waiting
                self._tell(self._pools[record.pool], record.slot, record, keeps)

    def _report(self, records: Sequence[ExitRecord]) -> None:
        for record in records:
            level = logging.INFO if record.cause in _EXPECTED else logging.WARNING
            log(record.event, record.summary, level=level, **record.fields())
            self._sidecars.tell_exit(record)

    def _tell(self, pool: Pool, slot: int, record: ExitRecord, keeps: bool) -> None:
        worker = Incarnation(slot, record.generation)
        exit_notice = ExitNotice(worker, record.cause, record.status, record.signal, record.stack)
        if keeps:
            keep(pool, slot, exit_notice)
        else:
            self._give(pool, exit_notice)

    def _give(self, pool: Pool, exit_notice: ExitNotice) -> None:
        pool.consumer_channel.owe(exit_notice)
        # fail-point: master.verdict-queued: a verdict is queued, not sent

    def _read_marks(self, child: Child) -> Marks:
        slot = child.slot_file
        identity = slot.identity() if slot is not None else None
        if slot is None or identity is None or identity.generation != child.generation:
            return Marks(child.intent)
        untaken = any(cell.generation == child.generation for cell in slot.cells(slot.tail))
        return Marks(
            slot.intent(child.generation), slot.leaving(child.generation), slot.running(), slot.handled, untaken
        )

    def _oom_evidence(self, marked: Sequence[tuple[ReapedChild, Marks]]) -> str:
        """What explains the SIGKILLs among these that are not ours; "" when there are none."""
        kills = sum(
            os.WIFSIGNALED(reaped.wait_status)
            and os.WTERMSIG(reaped.wait_status) == signal.SIGKILL
            and marks.intent not in _OUR_KILLS
            for reaped, marks in marked
        )
        if kills:
            return self._oom.evidence(kills)
        self._oom.look()
        return ""

    def _record(self, reaped: ReapedChild, marks: Marks, evidence: str, stopping: bool) -> ExitRecord:
        child = reaped.child
        pool = None if child.kind in SIDECARS else self._pools[child.pool]
        self._hear_last_words(pool, child, reaped.died_s)
        status, signum = Death.status_and_signal(reaped.wait_status)
        death = Death(child.kind, status, signum, marks.intent, marks.leaving, marks.running is not None, evidence)
        cause = cause_of(death)
        running = marks.running
        record = ExitRecord(
            at=rfc3339(wall_s()),
            event=EXITED[child.kind],
            kind=child.kind,
            pool=child.pool,
            slot=child.slot,
            pid=child.pid,
            generation=child.generation,
            cause=cause,
            status=status,
            signal=None if signum is None else posix.signal_name(signum),
            core_dumped=os.WCOREDUMP(reaped.wait_status),
            requested_by=child.requested_by or ("outside" if cause is Cause.CLEAN_STOP else ""),
            uptime_s=round(reaped.died_s - child.started_s, 3),
            messages=marks.handled,
            message_id=running.message_id if running else "",
            attempt=running.run.attempt if running else None,
            elapsed_s=round(reaped.died_s - running.started_s, 3) if running else None,
            limit_s=round(running.limit_s, 3) if running else None,
            limit_source=running.source.name.lower() if running else "",
            run=run_of(running is not None, marks.untaken),
            max_rss_bytes=reaped.usage.ru_maxrss * 1024,
            cpu_user_s=round(reaped.usage.ru_utime, 4),
            cpu_system_s=round(reaped.usage.ru_stime, 4),
            oom_evidence=evidence if cause is Cause.OUT_OF_MEMORY else "",
            stack=self._stack(pool, child, cause) if pool else "",
            unkillable=child.unkillable,
        )
        if pool is None:
            return msgspec.structs.replace(record, restart_in_s=self._sidecars.follow(child, record, stopping))
        return msgspec.structs.replace(record, restart_in_s=self._follow(pool, reaped, marks, record, stopping))

    def _hear_last_words(self, pool: Pool | None, child: Child, now_s: float) -> None:
        if pool is None:
            self._sidecars.hear_last_words(child)
            return
        pool.disconnect(child, now_s)

    def _follow(
        self, pool: Pool, reaped: ReapedChild, marks: Marks, record: ExitRecord, stopping: bool
    ) -> float | None:
        """Clear the seat and say when it is due again, in seconds; None for never."""
        child, spec = reaped.child, pool.spec_of(reaped.child)
        if spec is None:
            return None
        if record.cause is Cause.STOP_KILLED and marks.running is not None:
            pool.cut_off.append(marks.running.message_id)
        spec.ended(None if record.cause in _EXPECTED else _why(record, spec.why), _incurable(record))
        if stopping or not pool.wants(spec):
            spec.not_replaced()
            return None
        life, dice = _life(reaped, marks, record.cause), self._random.random()
        tries = (
            BOOT_TRIES if pool.was_ready else 1
        )  # the command or the service manager that starts the daemon waits for the answer
        rates = [pool.crash_rate] if child.kind is Kind.WORKER else [pool.crash_rate, pool.service_crash_rate]
        for rate in rates:
            rate.add(record, life.progressed, reaped.died_s)
        decision = decide(record.cause, life, spec, pool.intensity, pool.config, reaped.died_s, dice, tries)
        spec.replaced(None if decision.delay_s is None else reaped.died_s + decision.delay_s)
        pool.restarts[child.kind] += 1
        pool.holds += decision.hold
        return None if decision.delay_s is None else round(decision.delay_s, 3)

    def _stack(self, pool: Pool, child: Child, cause: Cause) -> str:
        if cause in _EXPECTED:
            return ""
        if child.slot is not None:
            return pool.stack_text(child.slot)
        if child.intent is Intent.BOOT_KILL:
            return pool.forkserver_stack()
        spec = pool.spec_of(child)
        return spec.stack if spec is not None and cause is Cause.BOOT_FAILED else ""


def _life(reaped: ReapedChild, marks: Marks, cause: Cause) -> Life:
    """What this child has shown; a time limit ends a run as its handler would."""
    ready_s, timed_out = reaped.child.ready_s, cause is Cause.TIMEOUT and marks.running is not None
    return Life(
        ready_for_s=None if ready_s is None else reaped.died_s - ready_s,
        messages=marks.handled + timed_out,
        asked=marks.intent is Intent.STOP,
    )


def _incurable(record: ExitRecord) -> bool:
    """Whether an operator must edit something: an import that failed, or a worker's reason in one line of ours. What an
    `init` raises (a stack) may heal by itself, as may what the broker refuses, or a boot that took too long."""
    if record.cause is not Cause.BOOT_FAILED or record.status is None:
        return False
    stack = record.stack.strip()
    return record.kind is Kind.FORKSERVER or (record.kind is Kind.WORKER and bool(stack) and "\n" not in stack)


def _why(record: ExitRecord, reported: str) -> str:
    """What a user reads about the seat: the child's own words for a failed boot, else how it ended.

    `reported`: what a forkserver or consumer has said by itself; a worker says it in its stack.
    """
    if record.requested_by == boots.REQUESTED_BY:
        what = "its import hangs" if record.kind is Kind.FORKSERVER else "its `init` hangs, or its link socket is gone"
        return f"{record.child_name} was not ready within boot_timeout: {what}; see the stack of its exit record"
    if record.cause is Cause.BOOT_FAILED:
        last_line = record.stack.strip().rpartition("\n")[2] or record.ending
        said = "" if record.kind is Kind.WORKER else reported
        return said or f"{record.child_name} cannot boot: {last_line}"
    return record.summary
