"""One ride: publish, strike as the plan says, wait until all is settled, stop, and judge what happened.

What a message with an id may expect is `tests.support.history`'s business; added here is what only a ride knows: how
many runs the kills can explain, which messages must be parked, and what holds for messages without an id.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from supervisor.system.clock import monotonic_s
from tests.support.chaos.plan import TRAITS, Fault, Leg, Order, Shape, Strike, cuts
from tests.support.chaos.rig import Rig
from tests.support.chaos.strikes import ALONE, STRIKES, Undo
from tests.support.history import History, Note, Step, audited, charges, faults, overlaps, runs

STALLED_S = 60.0
_DULL_S = 3.0
_POLL_S = 0.01
_LOOK_S = 0.5

Progress = Callable[[int, str], None]
"""Called with the number of effects so far, and what was just done."""


class Outcome(msgspec.Struct, frozen=True):
    """What a ride came to. `declared`: second effects that a record announces; `bare_again`: runs of
    messages without an id that were repetitions; `wrong`: everything that must not be, in words."""

    struck: list[Fault]
    messages: int
    lost: int
    duplicated: int
    declared: int
    overlaps: int
    parked: int
    bare_again: int
    wrong: list[str]


class _Lasting(msgspec.Struct):
    """A fault that is to be ended: after so many effects, or at this time (CLOCK_MONOTONIC)."""

    until_effects: int
    until_s: float
    undo: Undo


class Ride:
    """Takes a running rig through the legs of a plan."""

    def __init__(
        self, rig: Rig, shape: Shape, legs: list[Leg], progress: Progress = lambda effects, what: None
    ) -> None:
        self._rig = rig
        self._shape = shape
        self._legs = legs
        self._progress = progress
        self._struck: list[Fault] = []
        self._lasting: list[_Lasting] = []
        self._effects, self._moved_s, self._looked_s, self._hurried_s = 0, monotonic_s(), 0.0, 0.0

    def run(self) -> Outcome:
        """All of it; the daemon is stopped when it returns. An AssertionError when the work stalls."""
        for leg in self._legs:
            self._rig.publish(leg.orders)
            for strike in leg.strikes:
                self._wait(lambda strike=strike: self._effects >= strike.due)  # type: ignore[misc]
                self._strike(strike)
            self._wait(lambda: False)
            if leg.delete_queue:
                self._strike(Strike(self._effects, Fault.DELETE_QUEUE, 0, 0))
        status = self._rig.daemon.stop()
        assert status == 0, f"the daemon stopped with status {status}"
        return judge(self._evidence())

    # ---- on the way -------------------------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds, or nothing is left to do. Ends what is over meanwhile."""
        self._moved_s = monotonic_s()
        while not condition() and not self._all_done():
            self._look()
            assert monotonic_s() - self._moved_s < STALLED_S, f"no effect for {STALLED_S:g} s after {self._struck[-5:]}"
            threading.Event().wait(_POLL_S)

    def _look(self) -> None:
        effects, now_s = self._rig.effects(), monotonic_s()
        if effects != self._effects:
            self._effects, self._moved_s = effects, now_s
        for lasting in list(self._lasting):
            if self._effects >= lasting.until_effects or now_s >= lasting.until_s:
                self._lasting.remove(lasting)
                lasting.undo()
        self._shorten_the_back_off(now_s)

    def _shorten_the_back_off(self, now_s: float) -> None:
        """After many losses the daemon waits long before it connects again; a new consumer begins again."""
        dull = now_s > max(self._moved_s, self._hurried_s) + _DULL_S
        if dull and Fault.KILL_CONSUMER in self._shape.faults and not self._lasting:
            self._hurried_s = now_s
            self._strike(Strike(self._effects, Fault.KILL_CONSUMER, 0, 0))

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
        undo = STRIKES[strike.fault](self._rig, strike)
        if undo is not None:
            until_s = monotonic_s() + TRAITS[strike.fault].timeout_s
            self._lasting.append(_Lasting(self._effects + strike.span, until_s, undo))
        self._struck.append(strike.fault)
        self._progress(self._effects, strike.fault)

    def _undo_all(self) -> None:
        lasting, self._lasting = self._lasting, []
        for each in lasting:
            each.undo()

    # ---- evidence ---------------------------------------------------------------------------------------------------

    def _evidence(self) -> Evidence:
        daemon = self._rig.daemon
        log = [line for line in map(_json, daemon.log_path.read_bytes().splitlines()) if line]
        return Evidence(
            shape=self._shape,
            struck=self._struck,
            orders=[order for leg in self._legs for order in leg.orders],
            notes=self._rig.notes(),
            exits=all_exits(daemon.exits(), log, Fault.FULL_DISK in self._struck),
            log=log,
            parked=self._rig.parked(),
            waiting=self._rig.waiting(),
        )


class Evidence(msgspec.Struct, frozen=True):
    """What a ride left behind. `waiting`: messages still in the queues."""

    shape: Shape
    struck: list[Fault]
    orders: list[Order]
    notes: list[Note]
    exits: list[dict[str, Any]]
    log: list[dict[str, Any]]
    parked: list[Order]
    waiting: int


def all_exits(journal: list[dict[str, Any]], log: list[dict[str, Any]], disk_was_full: bool) -> list[dict[str, Any]]:
    """The exit history; what waited in memory for a full disk when the master was killed is in the log alone. Pure."""
    known = {record["generation"] for record in journal}
    logged = [line for line in log if str(line.get("event")).endswith(".exited") and line["generation"] not in known]
    return journal + logged if disk_was_full else journal


def judge(evidence: Evidence) -> Outcome:
    """What it came to. Pure."""
    named, bare = _history(evidence, bare=False), _history(evidence, bare=True)
    exit_notice, parked = audited(named, Step.EFFECT), [order.name for order in evidence.parked]
    lost_bare = sorted(bare.sent.keys() - {note.id for note in bare.notes if note.step is Step.EFFECT} - set(parked))
    wrong = [*faults(named), *(f"{name} is lost" for name in lost_bare), *_unsaid(bare)]
    if evidence.waiting:
        wrong.append(f"{evidence.waiting} messages are left in the queues")
    wrong += _unexplained(evidence, named)
    if evidence.shape.on_crash == "park":
        wrong += _wrongly_parked(evidence, named)
    return Outcome(
        evidence.struck,
        len(evidence.orders),
        len(exit_notice.lost) + len(lost_bare),
        len(exit_notice.duplicated),
        exit_notice.declared,
        len(list(overlaps(named))),
        len(parked),
        sum(run.started.attempt == 1 for of_one in runs(bare).values() for run in of_one[1:]),
        wrong,
    )


def _history(evidence: Evidence, bare: bool) -> History:
    """The messages with an id, or those without one; every process belongs to the former."""
    sent = {order.name: "fail" if order.fails else "done" for order in evidence.orders if order.bare is bare}
    return History(
        sent=sent,
        notes=[note for note in evidence.notes if note.id in sent],
        exits=evidence.exits,
        log=evidence.log,
        parked={order.name for order in evidence.parked if order.bare is bare},
    )


def _unexplained(evidence: Evidence, named: History) -> list[str]:
    """More attempts than the messages order and the kills explain; with connection faults alone there is not one."""
    extra, explained = charges(named), cuts(evidence.struck, evidence.shape.workers)
    if evidence.shape.on_crash == "park":
        explained = 0
    if sum(extra.values()) > explained:
        return [f"{sum(extra.values())} attempts too many ({sorted(extra)[:5]} …), and only {explained} are explained"]
    return []


def _unsaid(bare: History) -> list[str]:
    """A message without an id may run again, but then its handler can see that: by the flag, or by the attempt."""
    return [
        f"{name} ran again as if it were new"
        for name, of_one in runs(bare).items()
        for later in (run.started for run in of_one[1:])
        if not later.maybe_duplicate and later.attempt == 1
    ]


def _wrongly_parked(evidence: Evidence, named: History) -> list[str]:
    """Each message that was running when its worker died is parked, and no other."""
    crashed = {record["message_id"] for record in evidence.exits if record["run"] == "in_doubt"} & named.sent.keys()
    parked = set(named.parked)
    return [
        *(f"{name} was running when its worker died, and is not parked" for name in sorted(crashed - parked)),
        *(f"{name} is parked, and no worker died of it" for name in sorted(parked - crashed)),
    ]


def _json(line: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}
