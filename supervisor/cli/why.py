"""`preforkd why`: what happened lately to a pool, a worker or a message, in words, and what to do next.

It works with and without a running daemon, and changes nothing. Facts are the running daemon's where there is one, else
of the files it has left. No consumer is held up: the daemon answers from its memory and by one look-up in the ledger.
What could not be asked is said in `gaps`, so that silence is never taken for an answer. Advice: `explanations.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from supervisor.cli.command import command
from supervisor.cli.completion import targets
from supervisor.cli.console import as_arguments, block, ended_with, print_line, shown
from supervisor.cli.explanations import EXPECTED, MISSING, POOLS, STATES, Explanation, explain, explain_ending
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.names import pool_of
from supervisor.consumer.observe.traces import trace_of
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.control.client import NotRunning, OtherRuntimeDir
from supervisor.control.results import Found, FoundInPool, Status, WorkerStatus
from supervisor.errors import ConfigError, ControlError, LedgerError, PreforkdError, no_such_pool
from supervisor.exit_history import HistoryTail, Record
from supervisor.ledger import peek
from supervisor.ledger.base import RowState
from supervisor.link.consumer_state import Trace, TraceFailure
from supervisor.quantities import show_seconds

Line = tuple[str, object]
"""A label and what there is to say; several lines of text are shown below it."""

_EXITS = 10
_POOL_EXITS = 100
_TO_BE_RETRIED = (RowState.RETRY_PENDING, RowState.RETRY)
_IN_DOUBT = "in_doubt"
_BLOCKS = frozenset({"stack", "reason", "lately"})
"""Labels whose text may have several lines; anywhere else a line end is of an id, and shown escaped."""


@command(
    "why",
    ("A pool", "preforkd why email"),
    ("The worker in slot 3", "preforkd why email/3"),
    ("A message", "preforkd why ORDER-17"),
    ("A message whose id is the name of a pool", "preforkd why --message email"),
)
@click.argument("target", metavar="POOL | POOL/SLOT | MESSAGE_ID", shell_complete=targets)
@click.option(
    "--message", "as_message", is_flag=True, help="Take the argument for a message id, although a pool has this name."
)
@pass_invocation
def why_command(invocation: Invocation, target: str, as_message: bool) -> int:
    """Explain recent exits and failures, and say what to do next."""
    sources = Sources(invocation)
    name, _slash, slot = target.rpartition("/")
    if as_message:
        story = list(_about_message(sources, target))
    elif pool := pool_of(target, sources.queues):
        story = list(_about_pool(sources, pool))
    elif (pool := pool_of(name, sources.queues)) is None:
        story = list(_about_message(sources, target))
    elif slot.isdecimal():
        story = list(_about_worker(sources, pool, int(slot)))
    else:
        raise click.UsageError(f"{target!r}: after a pool's name and / comes the number of a worker (--message: an id)")
    if not story:
        raise _unknown(sources, target)
    for line in [*story, *(("note", gap) for gap in sources.gaps)]:
        _print(*line)
    return 0


# ---- a message ------------------------------------------------------------------------------------------------------


def _about_message(sources: Sources, message_id: str) -> Iterator[Line]:
    for worker in sources.workers_with(message_id):
        yield "now", f"{worker.name} {_running(worker)}"
    for pool, traces in sources.traces(message_id).items():
        for trace in traces:
            yield from _about_trace(trace, sources.queue_of(pool), message_id)
    for record in sources.exits(_EXITS, message_id=message_id):
        yield "exit", f"{record.get('at')}  {_exit_line(record)}"


def _about_trace(trace: Trace, queue: str, message_id: str) -> Iterator[Line]:
    names = {"queue": queue, "id": message_id, "letter": as_arguments(queue, message_id)}
    state = _state_of(trace)
    since = f" (since {trace.at})" if trace.at else ""
    yield "message", f"{message_id}, queue {queue}: {state.means.format(**names)}{since}"
    at = f" at {trace.worker}" if trace.worker else f" at {trace.holder}" if trace.holder else ""
    yield "run", f"round {trace.round}, attempt {trace.attempt}{at}"
    if trace.failure is not None:
        yield from _about_failure(trace.failure)
        if trace.state in _TO_BE_RETRIED and trace.failure.delay_s:
            after = f"{show_seconds(trace.failure.delay_s)} after this failure"
            yield "delay", f"attempt {trace.attempt + 1} comes {after}"
    if state.next:
        yield "next", state.next.format(**names)


def _state_of(trace: Trace) -> Explanation:
    return MISSING if trace.missing is True else explain(STATES, trace.state)


def _about_failure(failure: TraceFailure) -> Iterator[Line]:
    explanation = explain_ending(failure.cause, failure.status, failure.signal)
    yield "cause", f"{failure.cause}: {explanation.means}"
    yield "reason", failure.reason
    if failure.worker:
        yield "worker", f"{failure.worker}, {failure.at}"
    if failure.stack:
        yield "stack", failure.stack
    if explanation.next:
        yield "next", explanation.next


def _unknown(sources: Sources, target: str) -> PreforkdError:
    gaps = "".join(f"\n  {gap}" for gap in sources.gaps)
    return PreforkdError(
        f"{no_such_pool(target, sources.queues)}; and no trace of a message with this id is left: it was never "
        "delivered here and may wait in its queue, or ledger.keep is over; `preforkd dead show QUEUE ID` reads "
        f"the dead letters themselves{gaps}"
    )


# ---- a worker -------------------------------------------------------------------------------------------------------


def _about_worker(sources: Sources, pool: str, slot: int) -> Iterator[Line]:
    known = sources.status.pools.get(pool) if sources.status else None
    workers = known.workers if known else []
    records = sources.exits(_EXITS, pool=pool, slot=slot)
    worker = next((worker for worker in workers if worker.slot == slot), None)
    if worker is None and not records:
        raise PreforkdError(
            f"there is no worker {pool}/{slot}, nor a record of one: pool {pool} has {len(workers)} worker(s) now"
            if sources.status
            else f"there is no record of a worker {pool}/{slot}, and no daemon runs"
        )
    if worker is not None:
        yield "now", f"{worker.name} {_running(worker)}"
    yield from _about_last_exit(sources, records)
    yield from _exit_list(records)


def _running(worker: WorkerStatus) -> str:
    if not worker.message_id:
        again = worker.restart_in_s
        return worker.state + ("" if again is None else f", tried again in {show_seconds(again)}")
    limit = f" of {show_seconds(worker.limit_s)} ({worker.limit_source})" if worker.limit_s else ""
    elapsed = show_seconds(worker.elapsed_s)
    return f"{worker.state} {worker.message_id}, attempt {worker.attempt}, for {elapsed}{limit}"


# ---- a pool ---------------------------------------------------------------------------------------------------------


def _about_pool(sources: Sources, name: str) -> Iterator[Line]:
    records = sources.exits(_POOL_EXITS, pool=name)
    pool = sources.status.pools.get(name) if sources.status else None
    if pool is not None:
        state = explain(POOLS, pool.state)
        yield "now", f"pool {name} is {pool.state}: {state.means}"
        yield from (("reason", why) for why in dict.fromkeys([pool.why, *pool.consumer.notes]) if why)
        if state.next:
            yield "next", state.next.format(pool=name)
        yield "queue", f"{pool.depth.ready} ready, {pool.consumer.in_flight} in flight"
    counts = Counter(f"{record.get('cause')} ({_ending(record)})" for record in records)
    if counts:
        listed = ", ".join(f"{count} x {what}" for what, count in counts.most_common())
        yield "exits", f"{listed}, since {records[0].get('at')}"
    yield from _about_last_exit(sources, records)
    yield from _exit_list(records[-_EXITS:])


# ---- exits ----------------------------------------------------------------------------------------------------------


def _about_last_exit(sources: Sources, records: list[Record]) -> Iterator[Line]:
    """The last exit that is worth a look: its cause, its message, what was done, what to do."""
    record = next((record for record in reversed(records) if record.get("cause") not in EXPECTED), None)
    if record is None:
        yield "exits", "no unusual exits on record" if records else "none on record"
        return
    ending = record.get("status"), record.get("signal"), str(record.get("requested_by") or "")
    explanation = explain_ending(str(record.get("cause")), *ending)
    yield "exit", f"{record.get('at')}  {_exit_line(record)}"
    yield "cause", f"{record.get('cause')}: {explanation.means}"
    yield from _about_its_message(sources, record)
    yield "done", _done(record)
    if record.get("stack"):
        yield "stack", record["stack"]
    if explanation.next:
        yield "next", explanation.next


def _about_its_message(sources: Sources, record: Record) -> Iterator[Line]:
    message_id = record.get("message_id")
    if not message_id:
        return
    yield (
        "message",
        f"{message_id}, attempt {record.get('attempt')}, after {show_seconds(record.get('elapsed_s') or 0)}",
    )
    pool = str(record.get("pool"))
    queue = sources.queue_of(pool)
    for trace in sources.traces(message_id).get(pool, ()):
        means = _state_of(trace).means.format(queue=queue, id=message_id)
        yield "message", f"now {means} (round {trace.round}, attempt {trace.attempt})"


def _done(record: Record) -> str:
    doubt = "its message was in doubt, and followed on_crash; " if record.get("run") == _IN_DOUBT else ""
    again = record.get("restart_in_s")
    if again is None:
        return f"{doubt}it was not replaced"
    return f"{doubt}it was replaced {f'after {show_seconds(again)}' if again else 'at once'}"


def _exit_list(records: Iterable[Record]) -> Iterator[Line]:
    lines = [f"{record.get('at')}  {_exit_line(record)}" for record in records]
    if len(lines) > 1:
        yield "lately", "\n".join(lines)


def _exit_line(record: Record) -> str:
    slot = record.get("slot")
    spec = f"{record.get('pool')}/{slot}" if slot is not None else f"{record.get('pool')} {record.get('kind')}"
    by = f" by {record['requested_by']}" if record.get("requested_by") else ""
    message = (
        f", running {shown(record['message_id'])} (attempt {record.get('attempt')})" if record.get("message_id") else ""
    )
    evidence = f", evidence {record['oom_evidence']}" if record.get("oom_evidence") else ""
    return f"{spec} pid {record.get('pid')} left: {record.get('cause')} ({_ending(record)}){by}{evidence}{message}"


def _ending(record: Record) -> str:
    ended = ended_with(record.get("status"), record.get("signal"))
    return {"-": "status unknown"}.get(ended, ended if record.get("signal") else f"status {ended}")


def _print(label: str, value: object) -> None:
    text = str(value).rstrip()
    if "\n" not in text or label not in _BLOCKS:
        print_line(f"{label:<9}{text}")
        return
    print_line(f"{label}:")
    click.echo("\n".join(f"    {line}" for line in block(text).splitlines()))


# ---- facts ----------------------------------------------------------------------------------------------------------


class Sources:
    """The facts of one call. `gaps`: what could not be asked, for people."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self.gaps: list[str] = []

    @cached_property
    def status(self) -> Status | None:
        """The daemon's status object; None when none answers."""
        try:
            return self._invocation.ask_for(Status, "status")
        except OtherRuntimeDir as error:
            self.gaps.append(str(error))
        except NotRunning:
            self.gaps.append("no daemon runs: these facts are from its files")
        except ControlError as error:
            self.gaps.append(f"the daemon could not be asked ({error})")
        return None

    @cached_property
    def queues(self) -> dict[str, str]:
        """The queue of each pool of the daemon, and of the file where that can be read. ConfigError: neither can."""
        return self._invocation.queues(self.status)

    def queue_of(self, pool: str) -> str:
        """The queue of a pool; "?" for one that neither the daemon nor the file has."""
        return self.queues.get(pool, "?")

    def exits(self, count: int, **facts: Any) -> list[Record]:
        """The last exit records in which these fields have these values, oldest first."""
        with HistoryTail(self._invocation.state_dir) as tail:
            found = (record for record in tail.new() if facts.items() <= record.items())
            return list(deque(found, maxlen=count))

    def workers_with(self, message_id: str) -> list[WorkerStatus]:
        """The workers, as `status` shows them, that run this message now."""
        pools = self.status.pools.values() if self.status else ()
        return [worker for pool in pools for worker in pool.workers if worker.message_id == message_id]

    def traces(self, message_id: str) -> dict[str, list[Trace]]:
        """What each pool knows of the messages with this id."""
        answers = self._asked(message_id) if self.status else self._read_all(message_id)
        self.gaps += [f"pool {name}: {answer.why}" for name, answer in answers.items() if answer.why]
        return {name: answer.traces for name, answer in answers.items()}

    def _asked(self, message_id: str) -> dict[str, FoundInPool]:
        try:
            return self._invocation.ask_for(Found, "find", message_id=message_id).pools
        except ControlError as error:
            self.gaps.append(f"the daemon could not be asked for the message ({error})")
            return {}

    def _read_all(self, message_id: str) -> dict[str, FoundInPool]:
        try:
            return {name: self._read(name, message_id) for name in self._invocation.messages.pools}
        except ConfigError as error:  # a message's key has the vhost of the broker's URL in it
            self.gaps.append(f"the ledgers could not be read ({error})")
            return {}

    def _read(self, name: str, message_id: str) -> FoundInPool:
        config = self._invocation.messages
        key = Arrivals(config.pools[name], config.broker).key_of(message_id)
        pool_dir = Path(config.daemon.state_dir) / "pools" / name
        try:
            return FoundInPool(traces=[trace_of(name, row) for row in peek(pool_dir, key)], why="")
        except LedgerError as error:
            return FoundInPool(traces=[], why=str(error))
