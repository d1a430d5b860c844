"""The history of messages through any number of crashes, and what is wrong with it. Pure.

Joins what was sent with the notes of the handler (`history_handlers.py`), the exit records, the log, the ledger and the
queues. What effects and exits mean for a message is the drill's audit; what only a test can know is added here: when
runs began and ended, and which processes there ever were.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

import msgspec

from supervisor.drill.audit import AuditReport, Evidence, audit

NOTES = "HISTORY_NOTES"
"""The environment variable with the path of the notes."""

Record = Mapping[str, Any]


class Step(StrEnum):
    """What a handler notes. END is missing where its process ended first."""

    START = "start"
    EFFECT = "effect"
    END = "end"


class Note(msgspec.Struct, frozen=True, array_like=True):
    """One step of one run. `monotonic_s` and `wall_s`: when, on both clocks. `maybe_duplicate`: as the run saw it."""

    step: Step
    id: str
    round: int
    attempt: int
    pid: int
    monotonic_s: float
    wall_s: float
    maybe_duplicate: bool = False


class History(msgspec.Struct, frozen=True):
    """`sent`: the deed that each message orders. `living`: the daemon's processes now, without the master.

    `rows`: the final state of each message in the ledger, None while it may not be read; `published`: the ids that
    came out of the handlers' own publishes; `committed`: an id for each effect that is in the database of the inbox.
    """

    sent: dict[str, str]
    notes: Sequence[Note]
    exits: Sequence[Record]
    log: Sequence[Record]
    dead: Collection[str] = ()
    parked: Collection[str] = ()
    published: Collection[str] = ()
    rows: Mapping[str, Sequence[str]] | None = None
    committed: Sequence[str] = ()
    living: Collection[int] = ()


class Run(msgspec.Struct, frozen=True):
    """One run of one message; `ended` None: it was cut off."""

    started: Note
    ended: Note | None


ATTEMPTS_ORDERED = {"fail": 2, "crash": 2, "hang": 2, "stick": 2}
"""How many attempts a message needs without faults; one, if it is not named here."""

_ROWS = {"reject": "dead"}
_READY = ("worker.ready", "forkserver.ready", "consumer.ready")


def faults(history: History) -> list[str]:
    """Everything that is wrong, in words; [] for a good history."""
    return [*faults_of_messages(history), *faults_of_processes(history)]


def faults_of_messages(history: History) -> list[str]:
    """What is wrong with messages. In a fleet the history is that of all hosts."""
    return [
        *_audited(history),
        *overlaps(history),
        *_unpublished(history),
        *_not_once(history),
        *_unsettled(history),
    ]


def faults_of_processes(history: History) -> list[str]:
    """What is wrong with the record of exits, of one host."""
    return [*_without_record(history), *_without_exit(history)]


def runs(history: History) -> dict[str, list[Run]]:
    """The runs of each message, in the order in which they began."""
    by_run: dict[tuple[str, int, int, int], list[Note]] = defaultdict(list)
    for note in history.notes:
        by_run[note.id, note.round, note.attempt, note.pid].append(note)
    found: dict[str, list[Run]] = defaultdict(list)
    for notes in by_run.values():
        for started in (note for note in notes if note.step is Step.START):
            ends = (n for n in notes if n.step is Step.END and n.monotonic_s >= started.monotonic_s)
            found[started.id].append(Run(started, next(ends, None)))
    for of_one in found.values():
        of_one.sort(key=lambda run: run.started.monotonic_s)
    return found


def audited(history: History, step: Step) -> AuditReport:
    """The drill's audit, with each note of this step taken for an effect."""
    noted: list[Record] = [
        {"id": n.id, "round": n.round, "attempt": n.attempt} for n in history.notes if n.step is step
    ]
    return audit(
        Evidence(
            sent=list(history.sent),
            effects=noted,
            announced=[],
            struck=[],
            exits=list(history.exits),
            log=list(history.log),
            dead=list(history.dead),
            parked=list(history.parked),
        )
    )


def charges(history: History, ordered: Mapping[str, int] = ATTEMPTS_ORDERED) -> dict[str, int]:
    """For each message the attempts that it was charged with beyond those its deed orders, begun or not (I4)."""
    last: Counter[str] = Counter()
    for note in history.notes:
        last[note.id] = max(last[note.id], note.attempt)
    extra = {id: attempt - ordered.get(history.sent[id], 1) for id, attempt in last.items()}
    return {id: count for id, count in extra.items() if count > 0}


def _audited(history: History) -> Iterator[str]:
    """The drill's audit twice: of the effects, and of the starts, which are never undeclared re-runs either."""
    for step, what in ((Step.EFFECT, "has a second effect"), (Step.START, "was run again")):
        report = audited(history, step)
        for id in dict.fromkeys(report.duplicated):
            yield f"{id} {what}, and no record declares it"
        if step is Step.EFFECT:
            yield from (f"{id} is lost" for id in report.lost)


def overlaps(history: History) -> Iterator[str]:
    """Where it is not so: no run begins before the one before it has ended, or its process is on record as dead."""
    died_s = {(record["pid"], record["message_id"], record["attempt"]): record["at"] for record in history.exits}
    for id, of_one in runs(history).items():
        for earlier, later in pairwise(of_one):
            began = f"{id}: attempt {later.started.attempt} began while attempt {earlier.started.attempt}"
            if earlier.ended is not None:
                if later.started.monotonic_s < earlier.ended.monotonic_s:
                    yield f"{began} was running"
                continue
            at = died_s.get((earlier.started.pid, id, earlier.started.attempt))
            if at is None or _wall_s(at) > later.started.wall_s:
                yield f"{began} of pid {earlier.started.pid} was not known to be over"


def _unpublished(history: History) -> Iterator[str]:
    for id, deed in history.sent.items():
        if deed == "publish" and id not in history.published and id not in history.parked:
            yield f"{id} is done, and what it published is nowhere"


def _not_once(history: History) -> Iterator[str]:
    """An effect with an inbox is in its database once, whatever the number of attempts; of a parked message at most."""
    counts = Counter(history.committed)
    for id, deed in history.sent.items():
        if deed == "once" and counts[id] != 1 and not (id in history.parked and counts[id] == 0):
            yield f"{id} has {counts[id]} effects in the database of its inbox"


def _unsettled(history: History) -> Iterator[str]:
    if history.rows is None:
        return
    for id, deed in history.sent.items():
        expected = "parked" if id in history.parked else _ROWS.get(deed, "done")
        states = list(history.rows.get(id, ()))
        if states != [expected]:
            yield f"{id}: the ledger says {states or 'nothing'} where {expected} is due"


def _without_record(history: History) -> Iterator[str]:
    """Every process that ever was ready or ran a message is on record, or lives.

    A pid may be given again; a generation never is, but only the master's own lines tell it.
    """
    recorded = {(record["pool"], record["generation"]) for record in history.exits}
    for line in _forks(history):
        if line["pid"] not in history.living and (line["pool"], line["generation"]) not in recorded:
            yield f"pid {line['pid']} is gone, and generation {line['generation']} has no exit record"
    pids = {record["pid"] for record in history.exits} | set(history.living)
    known = {line["pid"] for line in history.log if line["event"] in _READY} | {note.pid for note in history.notes}
    yield from (f"pid {pid} is gone and has no exit record" for pid in sorted(known - pids))


def _without_exit(history: History) -> Iterator[str]:
    records = Counter((record["pool"], record["generation"]) for record in history.exits)
    yield from (
        f"{pool} {generation} has {count} exit records" for (pool, generation), count in records.items() if count > 1
    )
    latest = {line["pid"]: line for line in history.log if line["event"] in _READY}
    yield from (
        f"pid {pid} has an exit record and lives"
        for pid in history.living
        if pid in latest and _is_recorded(latest[pid], history.exits)
    )


def _is_recorded(ready: Record, exits: Iterable[Record]) -> bool:
    """Whether the life that this line tells of has an exit record.

    A consumer says itself that it is ready, and does not know its generation: a record of its pid counts that was
    written later. An older one is of another process that had the pid before.
    """
    if "generation" in ready:
        return any((ready["pool"], ready["generation"]) == (record["pool"], record["generation"]) for record in exits)
    return any(ready["pid"] == record["pid"] and record["at"] > ready["at"] for record in exits)


def _forks(history: History) -> list[Record]:
    return [line for line in history.log if line["event"] in _READY and "generation" in line]


def _wall_s(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
