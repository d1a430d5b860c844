"""The audit of a drill: joins sent messages, effects, exit records and failure records. Pure.

`duplicated` counts second effects that no exit or failure record declares (invariant I5), `declared` the others. Every
fault that happened must be in the records with its cause.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from supervisor.drill.plan import InnerFault, OuterFault
from supervisor.logs.events import Cause

Record = Mapping[str, Any]


class Evidence(msgspec.Struct, frozen=True):
    """The records of a drill. `struck`: (fault from outside, killed pid or 0); `log`: JSON log lines."""

    sent: list[str]
    effects: list[Record]
    announced: list[Record]
    struck: list[tuple[OuterFault, int]]
    exits: list[Record]
    log: list[Record]
    dead: list[str]
    parked: list[str]


class AuditReport(msgspec.Struct, frozen=True):
    """The result of an audit; `unexplained`: faults without the record that they must leave."""

    sent: int
    effects: int
    lost: list[str]
    duplicated: list[str]
    declared: int
    parked: int
    dead: int
    unexplained: list[str]

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing duplicated, every fault on record."""
        return not (self.lost or self.duplicated or self.unexplained)

    @property
    def line(self) -> str:
        """The last line of a drill's output."""
        return (
            f"audit: sent={self.sent} effects={self.effects} lost={len(self.lost)} "
            f"duplicated={len(self.duplicated)} declared={self.declared} parked={self.parked} dead={self.dead}"
        )


_EXPECTED: dict[InnerFault, Record] = {
    InnerFault.SEGFAULT: {"cause": Cause.CRASH, "signal": "SIGSEGV"},
    InnerFault.ABORT: {"cause": Cause.CRASH, "signal": "SIGABRT"},
    InnerFault.EXIT_ZERO: {"cause": Cause.UNEXPECTED_EXIT, "status": 0},
    InnerFault.EXIT_THREE: {"cause": Cause.CRASH, "status": 3},
    InnerFault.HANG: {"cause": Cause.TIMEOUT},
    InnerFault.MEMORY: {"cause": Cause.MEMORY_LIMIT, "signal": "SIGKILL"},
}
"""The exit record that each fault must leave. A Python exception ends no process and leaves a failure record."""

_SOONER = frozenset({Cause.TIMEOUT, Cause.OUT_OF_MEMORY})
"""On a busy or small machine a limit may end a worker before its fault does: the record has that cause."""

_ENDED_ALREADY = frozenset({Cause.TIMEOUT, Cause.MEMORY_LIMIT, Cause.OUT_OF_MEMORY})
"""A kill from outside may meet a process that a limit has just ended."""

_KILLED = {OuterFault.KILL_WORKER, OuterFault.KILL_CONSUMER, OuterFault.KILL_FORKSERVER}


def audit(evidence: Evidence) -> AuditReport:
    """Audit the records of a drill."""
    effects = defaultdict(list)
    for effect in evidence.effects:
        effects[effect["id"]].append((effect["round"], effect["attempt"]))
    declarations = _declarations(evidence)
    duplicated, declared = [], 0
    for id, runs in effects.items():
        runs.sort()
        for earlier, later in pairwise(runs):
            if _is_declared(declarations[id], earlier, later):
                declared += 1
            else:
                duplicated.append(id)
    elsewhere = {*evidence.dead, *evidence.parked}
    lost = [id for id in evidence.sent if id not in effects and id not in elsewhere]
    return AuditReport(
        len(evidence.sent),
        len(evidence.effects),
        lost,
        duplicated,
        declared,
        len(evidence.parked),
        len(evidence.dead),
        [*_unexplained_inner(evidence), *_unexplained_outer(evidence)],
    )


def _declarations(evidence: Evidence) -> dict[str, set[int]]:
    """For each message the attempts that a record declares as failed or in doubt."""
    found: dict[str, set[int]] = defaultdict(set)
    for record in evidence.exits:
        if record.get("message_id") and record.get("run") == "in_doubt":
            found[record["message_id"]].add(record["attempt"])
    for line in evidence.log:
        if line.get("event") == "message.failed":
            found[line["message_id"]].add(line["attempt"])
    return found


def _is_declared(declared: set[int], earlier: tuple[int, int], later: tuple[int, int]) -> bool:
    if earlier[0] != later[0]:
        return later[0] > earlier[0]  # a new round was ordered
    return later[1] > earlier[1] and all(attempt in declared for attempt in range(earlier[1], later[1]))


def _unexplained_inner(evidence: Evidence) -> Iterable[str]:
    failed = {line["message_id"] for line in evidence.log if line.get("event") == "message.failed"}
    for fault in evidence.announced:
        kind, id = InnerFault(fault["fault"]), fault["id"]
        if _forestalled(evidence, fault):
            continue  # the worker ended in another way before the announced fault, and a record says so
        if kind is InnerFault.EXCEPTION:
            if id not in failed:
                yield f"{kind} in message {id}: no failure record names it"
        elif not _recorded(evidence, message_id=id, **_EXPECTED[kind]):
            yield f"{kind} in message {id}: no exit record with {_words(_EXPECTED[kind])} names it"


def _forestalled(evidence: Evidence, fault: Record) -> bool:
    whose = {"message_id": fault["id"], "pid": fault["pid"]}
    if any(_recorded(evidence, **whose, cause=cause) for cause in _SOONER):
        return True
    if (OuterFault.KILL_WORKER, fault["pid"]) in evidence.struck and _recorded(evidence, **whose, cause=Cause.KILLED):
        return True
    return _master_killed(evidence) and _recorded(evidence, **whose, cause=Cause.LOST)


def _unexplained_outer(evidence: Evidence) -> Iterable[str]:
    for fault, pid in evidence.struck:
        if fault in _KILLED and not (_recorded(evidence, pid=pid, cause=Cause.KILLED) or _too_late(evidence, pid)):
            yield f"{fault} of pid {pid}: no exit record with cause killed"
    losses = sum(record["cause"] == Cause.LOST for record in evidence.exits)
    if not losses and _master_killed(evidence):
        yield "kill_master: no exit record with cause lost for what it left behind"
    cuts = sum(fault is OuterFault.CUT_CONNECTION for fault, _pid in evidence.struck)
    seen = sum(line.get("event") == "consumer.disconnected" for line in evidence.log)
    if seen < cuts:
        yield f"cut_connection: {cuts} cuts, but only {seen} consumer.disconnected events"


def _too_late(evidence: Evidence, pid: int) -> bool:
    """Whether a limit, or an ordered fault, had ended the process before the kill from outside."""
    if any(_recorded(evidence, pid=pid, cause=cause) for cause in _ENDED_ALREADY):
        return True
    own = (_EXPECTED.get(InnerFault(fault["fault"])) for fault in evidence.announced if fault["pid"] == pid)
    return any(_recorded(evidence, pid=pid, **expected) for expected in own if expected)


def _master_killed(evidence: Evidence) -> bool:
    return any(fault is OuterFault.KILL_MASTER for fault, _pid in evidence.struck)


def _recorded(evidence: Evidence, **expected: Any) -> bool:
    return any(all(record.get(name) == value for name, value in expected.items()) for record in evidence.exits)


def _words(expected: Record) -> str:
    return ", ".join(f"{name} {value}" for name, value in expected.items())
