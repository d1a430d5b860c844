"""One ride of a fleet: publish, strike as the plan says, wait until all is settled, stop, and judge what happened."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from supervisor.system.clock import monotonic_s
from tests.support.fleet_chaos.deaths import Deaths
from tests.support.fleet_chaos.plan import TRAITS, Fault, Plan, Shape, Strike
from tests.support.fleet_chaos.rig import Member, Rig
from tests.support.fleet_chaos.strikes import ALONE, STRIKES, Undo
from tests.support.history import History, Note, Step, audited, faults_of_messages, faults_of_processes, overlaps, runs

STALLED_S = 240.0
"""No effect for so long, although nothing lasts: something is stuck."""
_DULL_S = 3.0
_POLL_S = 0.01
_LOOK_S = 0.5

Progress = Callable[[int, str], None]
"""Called with the number of effects so far, and what was just done."""


class Outcome(msgspec.Struct, frozen=True):
    """What a ride came to. `undeclared`: messages with an id and a second run that no record announces; `declared`:
    second effects that one does; `lost_hosts`: runs decided for a host that was lost; `bare_again`: runs of messages
    without an id that were repetitions; `wrong`: everything that must not be, in words."""

    struck: list[Fault]
    messages: int
    lost: int
    undeclared: int
    declared: int
    overlaps: int
    parked: int
    lost_hosts: int
    bare_again: int
    wrong: list[str]


class _Lasting(msgspec.Struct):
    """A fault that is to be ended: after so many effects (inf: by time alone), or at this time (CLOCK_MONOTONIC)."""

    until_effects: float
    until_s: float
    undo: Undo


class Ride:
    """Takes a running rig through a plan."""

    def __init__(self, rig: Rig, shape: Shape, plan: Plan, progress: Progress = lambda effects, what: None) -> None:
        self._rig = rig
        self._shape = shape
        self._plan = plan
        self._progress = progress
        self._struck: list[Fault] = []
        self._lasting: list[_Lasting] = []
        self._deaths = Deaths()
        self._effects, self._moved_s, self._looked_s, self._hurried_s = 0, monotonic_s(), 0.0, 0.0

    def run(self) -> Outcome:
        """All of it; the daemons are stopped when it returns. An AssertionError when the work stalls."""
        self._rig.publish(self._plan.orders)
        for strike in self._plan.strikes:
            self._wait(lambda strike=strike: self._effects >= strike.due)  # type: ignore[misc]
            self._strike(strike)
        self._wait(lambda: False)
        for member in self._rig.members:
            status = member.stop()
            assert status == 0, f"the daemon of {member.host.name} stopped with status {status}"
        self._watch()
        try:
            return judge(self._evidence())
        finally:
            self._deaths.close()

    # ---- on the way -------------------------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds, or nothing is left to do. Ends what is over meanwhile."""
        self._moved_s = monotonic_s()
        while not condition() and not self._all_done():
            self._look()
            stuck_s = monotonic_s() - self._moved_s
            assert stuck_s < STALLED_S, f"no effect for {STALLED_S:g} s after {self._struck[-5:]}"
            threading.Event().wait(_POLL_S)

    def _look(self) -> None:
        effects, now_s = self._rig.effects(), monotonic_s()
        if effects != self._effects or self._lasting:
            self._effects, self._moved_s = effects, now_s
        for lasting in list(self._lasting):
            if self._effects >= lasting.until_effects or now_s >= lasting.until_s:
                self._lasting.remove(lasting)
                lasting.undo()
        self._watch()
        self._shorten_the_back_off(now_s)

    def _watch(self) -> None:
        """Watch the processes that have begun a message."""
        for member in self._rig.members:
            for pid in {msgspec.json.decode(line, type=Note).pid for line in member.noted.more().splitlines()}:
                self._deaths.watch(pid)
        self._deaths.look()

    def _shorten_the_back_off(self, now_s: float) -> None:
        """After many losses daemons wait long before they connect again; new consumers begin again."""
        if self._lasting or now_s < max(self._moved_s, self._hurried_s) + _DULL_S:
            return
        self._hurried_s = now_s
        for number in range(len(self._rig.members)):
            self._strike(Strike(self._effects, Fault.KILL_CONSUMER, number, 0, 0))

    def _all_done(self) -> bool:
        """Asked only after a while without an effect: it costs the broker a few questions."""
        now_s = monotonic_s()
        if now_s < max(self._moved_s, self._looked_s) + _LOOK_S or self._lasting:
            return False
        self._looked_s = now_s
        return self._rig.settled()

    def _strike(self, strike: Strike) -> None:
        if strike.fault in ALONE:
            self._undo_all()
        undo = STRIKES[strike.fault](self._rig, self._rig.members[strike.host], strike)
        if undo is not None:
            trait = TRAITS[strike.fault]
            effects = float("inf") if trait.by_time else self._effects + strike.span
            self._lasting.append(_Lasting(effects, monotonic_s() + trait.timeout_s, undo))
        self._struck.append(strike.fault)
        self._progress(self._effects, strike.fault)

    def _undo_all(self) -> None:
        lasting, self._lasting = self._lasting, []
        for each in lasting:
            each.undo()

    # ---- evidence ---------------------------------------------------------------------------------------------------

    def _evidence(self) -> Evidence:
        return Evidence(
            shape=self._shape,
            struck=self._struck,
            sent={order.name: "fail" if order.fails else "done" for order in self._plan.orders},
            hosts=[_host(member) for member in self._rig.members],
            died_s=self._deaths.at_s,
            parked=[order.name for order in self._rig.parked()],
            waiting=self._rig.waiting(),
            in_hand=self._rig.in_hand(),
            done_twice=self._rig.done_twice(),
        )


class OfHost(msgspec.Struct, frozen=True):
    """What one host has left behind."""

    name: str
    notes: list[Note]
    exits: list[dict[str, Any]]
    log: list[dict[str, Any]]


class Evidence(msgspec.Struct, frozen=True):
    """What a ride left behind. `sent`: each message and its deed; `died_s`: when processes ended (wall time);
    `waiting`, `in_hand`: messages still in the queues and in the store; `done_twice`: what the store has as done twice.
    """

    shape: Shape
    struck: list[Fault]
    sent: dict[str, str]
    hosts: list[OfHost]
    died_s: dict[int, float]
    parked: list[str]
    waiting: int
    in_hand: int
    done_twice: list[str]


def judge(evidence: Evidence) -> Outcome:
    """What it came to. Pure."""
    named, bare = _history(evidence, "named"), _history(evidence, "bare")
    effects, starts = audited(named, Step.EFFECT), audited(named, Step.START)
    done_bare = {note.id for note in bare.notes if note.step is Step.EFFECT}
    lost_bare = sorted(bare.sent.keys() - done_bare - set(evidence.parked))
    wrong = [*faults_of_messages(named), *(f"{name} is lost" for name in lost_bare), *_processes(evidence)]
    wrong += [f"{name} is done twice in the store" for name in evidence.done_twice]
    if evidence.waiting or evidence.in_hand:
        wrong.append(f"{evidence.waiting} messages are left in the queues, {evidence.in_hand} in the store")
    log = named.log
    return Outcome(
        evidence.struck,
        len(evidence.sent),
        len(effects.lost) + len(lost_bare),
        len(set(effects.duplicated) | set(starts.duplicated)),
        effects.declared,
        len(list(overlaps(named))),
        len(evidence.parked),
        sum(line["event"] == "message.failed" and line.get("cause") == "host_lost" for line in log),
        sum(run.started.attempt == 1 for of_one in runs(bare).values() for run in of_one[1:]),
        wrong,
    )


def _history(evidence: Evidence, kind: str) -> History:
    """The messages with an id ("named"), or those without one ("bare"), on all hosts."""
    sent = {name: deed for name, deed in evidence.sent.items() if name.startswith(kind)}
    notes = [note for host in evidence.hosts for note in host.notes if note.id in sent]
    exits = [record for host in evidence.hosts for record in host.exits]
    return History(
        sent=sent,
        notes=sorted(notes, key=lambda note: note.monotonic_s),
        exits=[*exits, *_ends(evidence, notes, exits)],
        log=[line for host in evidence.hosts for line in host.log],
        parked={name for name in evidence.parked if name in sent},
    )


def _ends(evidence: Evidence, notes: list[Note], exits: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each run that was cut off: when its process had ended, by its exit record or by the kernel."""
    recorded = {(record["pid"], record["message_id"], record["attempt"]): record["at"] for record in exits}
    ended = {(note.pid, note.id, note.attempt) for note in notes if note.step is Step.END}
    for run in {(note.pid, note.id, note.attempt) for note in notes} - ended:
        seen_s = evidence.died_s.get(run[0])
        told = [recorded[run]] if run in recorded else []
        if seen_s is not None:
            told.append(datetime.fromtimestamp(seen_s, UTC).isoformat())
        if told:
            at = min(told, key=datetime.fromisoformat)
            yield {
                "pid": run[0],
                "message_id": run[1],
                "attempt": run[2],
                "at": at,
                "cause": "",
                "generation": None,
                "pool": "",
            }


def _processes(evidence: Evidence) -> Iterator[str]:
    for host in evidence.hosts:
        history = History(sent={}, notes=host.notes, exits=host.exits, log=host.log)
        yield from (f"{host.name}: {fault}" for fault in faults_of_processes(history))


def _host(member: Member) -> OfHost:
    log = [line for line in map(_json, member.log_path.read_bytes().splitlines()) if line]
    return OfHost(member.host.name, member.notes(), member.exits(), log)


def _json(line: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}
