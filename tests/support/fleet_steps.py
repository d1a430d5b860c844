"""Calls of several holders at the same time, statement by statement, in every order that matters.

A line `-- step: name` in the functions (supervisor/fleet/sql) becomes a call here that waits until the test lets it
through; so does each insert of a row into `open`. So a test runs two or three calls in each order of their statements,
and compares every answer and the rows at the end with the rules (`fleet_model.py`): for each message there must be an
order of whole calls that explains them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from tests.support.fleet_model import Epoch, FleetModel, Held, Way
from tests.support.fleet_store import TURN, Caller, Entry, FleetStore, StoreError, columns, registration

SET_UP = """
CREATE OR REPLACE FUNCTION public.step(name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    who integer := nullif(current_setting('test.who', true), '')::integer;
BEGIN
    IF who IS NOT NULL THEN
        PERFORM pg_advisory_lock_shared(who, nextval('public.step_' || who)::integer);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION public.step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.step('');
    RETURN NEW;
END $$;
CREATE SEQUENCE IF NOT EXISTS public.step_1;
CREATE SEQUENCE IF NOT EXISTS public.step_2;
CREATE SEQUENCE IF NOT EXISTS public.step_3;
"""
_MOST_STEPS = 60
"""Of one session in one run."""

STEPPED = [
    (r"-- step: [\w-]+", "PERFORM public.step('');"),
    # A statement that inserts several rows is held before each.
    (
        r"(CREATE SEQUENCE preforkd.settled_seq;)",
        r"\1 CREATE TRIGGER step BEFORE INSERT ON preforkd.open FOR EACH ROW EXECUTE FUNCTION public.step();",
    ),
    ("lock_timeout = '2s'", "lock_timeout = '60s'"),  # a step may be a long one for PostgreSQL
]
"""What is replaced in the SQL (`FleetStore.make`), once a World is there."""


class Turn(NamedTuple):
    """Of an epoch. `turn` None: the number that the session's own resume has given."""

    me: Epoch
    claims: Sequence[Entry] = ()
    settles: Sequence[Entry] = ()
    turn: int | None = 0

    def on_model(self, model: FleetModel, resumed: int) -> object:
        """Its answer by the rules."""
        return model.turn(self.me, self.claims, self.settles, resumed if self.turn is None else self.turn)

    def on_store(self, world: World, resumed: int) -> tuple[str, tuple[object, ...]]:
        """The statement."""
        turn = resumed if self.turn is None else self.turn
        return TURN, (world.epochs[self.me], turn, *columns(self.claims), *columns(self.settles))

    def answer(self, world: World, rows: list[tuple[Any, ...]]) -> object:
        """The rows of PostgreSQL as the model gives them."""
        return {r[0].int >> 96: Way(r[4], (r[2], r[3]), world.name(r[5]), r[11], r[10]) for r in rows}


class Register(NamedTuple):
    """A new epoch of a host."""

    host: str
    place: str = "here"
    silent: tuple[Epoch, int] | None = None

    def on_model(self, model: FleetModel, _resumed: int) -> object:
        """As of Turn."""
        return model.register(self.host, self.place, self.silent)

    def on_store(self, world: World, _resumed: int) -> tuple[str, tuple[object, ...]]:
        """As of Turn."""
        silent = self.silent and (world.epochs[self.silent[0]], self.silent[1])
        return registration(world.ledger(self.host), self.place, self.host, silent)

    def answer(self, world: World, rows: list[tuple[Any, ...]]) -> object:
        """As of Turn."""
        if rows[0][0] is None:
            return "blocked"
        return world.name(rows[0][0])


class Simple(NamedTuple):
    """A call without a body: forget (of a host), leave and resume (of an epoch)."""

    what: str
    of: Any
    turn: int = 0

    def on_model(self, model: FleetModel, _resumed: int) -> object:
        """As of Turn."""
        if self.what == "forget":
            return model.forget(self.of)
        return model.resume(self.of) if self.what == "resume" else model.leave(self.of, self.turn)

    def on_store(self, world: World, _resumed: int) -> tuple[str, tuple[object, ...]]:
        """As of Turn."""
        if self.what == "forget":
            return "SELECT preforkd.forget_1(%s)", (self.of,)
        if self.what == "resume":
            return "SELECT preforkd.resume_1(%s)", (world.epochs[self.of],)
        return "SELECT preforkd.leave_1(%s, %s)", (world.epochs[self.of], self.turn)

    def answer(self, _world: World, rows: list[tuple[Any, ...]]) -> object:
        """As of Turn."""
        return None if self.what == "forget" else rows[0][0]


class Takeover(NamedTuple):
    """What an epoch does about another: fence (of that turn) or lose."""

    what: str
    me: Epoch
    other: Epoch
    seen: int = 0

    def on_model(self, model: FleetModel, _resumed: int) -> object:
        """As of Turn."""
        if self.what == "fence":
            return model.fence(self.me, self.other, self.seen)
        return model.lose(self.me, self.other)

    def on_store(self, world: World, _resumed: int) -> tuple[str, tuple[object, ...]]:
        """As of Turn."""
        both = world.epochs[self.me], world.epochs[self.other]
        if self.what == "fence":
            return "SELECT preforkd.fence_1(%s, %s, %s)", (*both, self.seen)
        return "SELECT preforkd.lose_1(%s, %s)", both

    def answer(self, _world: World, rows: list[tuple[Any, ...]]) -> object:
        """As of Turn."""
        return rows[0][0]


Call = Turn | Register | Simple | Takeover


@dataclass(frozen=True)
class Scenario:
    """`before`: calls one after the other. `sessions`: the calls of each session, at the same time as the others'."""

    before: Sequence[Call]
    sessions: Sequence[Sequence[Call]]


class Outcome(NamedTuple):
    """All answers by session, and all rows by message."""

    answers: tuple[tuple[object, ...], ...]
    rows: dict[int, tuple[Held | None, tuple[Held, ...]]]


class World:
    """A store between two runs."""

    def __init__(self, store: FleetStore) -> None:
        self.store = store
        store.owner.ask(SET_UP)
        self.epochs: dict[Epoch, int] = {}
        self.callers = [store.caller("postgres") for _ in range(3)]
        for who, caller in enumerate(self.callers, 1):
            caller.ask(f"SET test.who = '{who}'; SET synchronous_commit = off; SET deadlock_timeout = '50ms'")
        store.owner.ask("SET synchronous_commit = off")

    def ledger(self, host: str) -> UUID:
        """The ledger of a host."""
        return UUID(int=ord(host))

    def clear(self, scenario: Scenario) -> None:
        """Make what is there before."""
        self.epochs.clear()
        tables = ("holder", "open", "settled")
        for caller in self.callers:
            caller.ask("SELECT pg_advisory_unlock_all()")
        owner = self.store.owner
        owner.ask("SELECT pg_advisory_unlock_all();" + "; ".join(f"DELETE FROM preforkd.{table}" for table in tables))
        for call in scenario.before:
            sql, values = call.on_store(self, 0)
            with suppress(StoreError):  # one of an epoch that has ended, among random calls
                owner.ask(sql, *values)
            self.learn()
        owner.ask(
            "SELECT setval('public.step_1', 1, false), setval('public.step_2', 1, false), "
            "setval('public.step_3', 1, false);"
            f"SELECT pg_advisory_lock(w, n) FROM generate_series(1, 3) w, generate_series(1, {_MOST_STEPS}) n"
        )

    def release(self) -> None:
        """After a run that has failed: let all calls end."""
        self.store.owner.ask("SELECT pg_advisory_unlock_all()")
        for caller in self.callers:
            if caller.busy:
                with suppress(StoreError):
                    caller.end()

    def name(self, number: int) -> Epoch:
        """The epoch of this number as the model has it."""
        return next(epoch for epoch, known in self.epochs.items() if known == number)

    def learn(self) -> None:
        """The numbers of all epochs."""
        self.epochs.clear()
        for host, number in self.store.owner.ask("SELECT host, epoch FROM preforkd.holder ORDER BY epoch"):
            self.epochs[host, 1 + sum(known == host for known, _ in self.epochs)] = number

    def rows(self) -> dict[int, tuple[Held | None, tuple[Held, ...]]]:
        """Those of PostgreSQL as the model has them."""
        held = {row.key: Held(row.run, row.state, self.name(row.epoch)) for row in self.store.open_rows()}
        settled: dict[int, list[Held]] = {}
        for row in self.store.settled_rows():
            settled.setdefault(row.key, []).append(Held(row.run, row.state, self.name(row.epoch)))
        return {key: (held.get(key), tuple(settled.get(key, ()))) for key in held.keys() | settled.keys()}


class Session:
    """One session of a run. `next`: its calls that are left."""

    def __init__(self, world: World, who: int, calls: Sequence[Call]) -> None:
        self._world, self.who = world, who
        self.caller: Caller = world.callers[who - 1]
        self.left = list(calls)
        self.under_way: Call | None = None
        self._heard: list[tuple[Call, list[tuple[Any, ...]] | str]] = []
        self._passed = self._resumed = 0

    def go_on(self) -> None:
        """Begin the next call, or let the one under way take its next step."""
        if self.under_way is None:
            self.under_way = self.left.pop(0)
            sql, values = self.under_way.on_store(self._world, self._resumed)
            self.caller.begin(sql, *values)
        else:
            self._passed += 1
            self._world.store.owner.ask("SELECT pg_advisory_unlock(%s, %s)", self.who, self._passed)

    def hear(self) -> None:
        """Take the answer if it is there."""
        if self.under_way is None or not self.caller.ended():
            return
        rows: list[tuple[Any, ...]] | str
        try:
            rows = self.caller.end()
        except StoreError as error:
            assert error.sqlstate.startswith("PF"), error
            rows = error.sqlstate
        if isinstance(self.under_way, Simple) and self.under_way.what == "resume" and not isinstance(rows, str):
            self._resumed = rows[0][0]
        self._heard.append((self.under_way, rows))
        self.under_way = None

    def answers(self) -> tuple[object, ...]:
        """As the model gives them."""
        return tuple(r if isinstance(r, str) else call.answer(self._world, r) for call, r in self._heard)


_LOCKS = """SELECT pid, bool_or(locktype = 'advisory' AND classid BETWEEN 1 AND 3 AND objid <= 60) FROM pg_locks
    WHERE NOT granted GROUP BY pid"""


class Run:
    """One run of a scenario. `choices`: which session goes on, at each point; from their end on the one that did."""

    def __init__(self, world: World, scenario: Scenario, choices: Sequence[int]) -> None:
        world.clear(scenario)
        self._world, self.choices = world, choices
        self.sessions = [Session(world, who, calls) for who, calls in enumerate(scenario.sessions, 1)]
        self.taken: list[int] = []
        self.could: list[list[int]] = []

    def run(self) -> Outcome:
        """To the end of all calls."""
        last = 0
        while able := self._able():
            if last in able:
                able = [last, *(i for i in able if i != last)]
            at = len(self.taken)
            last = self.choices[at] if at < len(self.choices) else able[0]
            self.taken.append(last)
            self.could.append(able)
            self.sessions[last].go_on()
        assert all(s.under_way is None for s in self.sessions), "all that are left wait for each other"
        self._world.learn()
        return Outcome(tuple(s.answers() for s in self.sessions), self._world.rows())

    def _able(self) -> list[int]:
        """The sessions that can go on, once each has ended its call, is at a step, or waits for another."""
        while True:
            for session in self.sessions:
                session.hear()
            waiting = dict(self._world.store.owner.ask(_LOCKS))  # asked last: it is true of all that are under way
            under_way = [s for s in self.sessions if s.under_way is not None]
            if all(s.caller.pid in waiting for s in under_way):
                break
        return [
            number
            for number, s in enumerate(self.sessions)
            if (s.under_way is None and s.left) or (s.under_way is not None and waiting[s.caller.pid])
        ]


def explore(world: World, scenario: Scenario, preemptions: int) -> int:
    """Run every order of statements that leaves a session which could go on at most `preemptions` times. Gives how many
    there are. Raises AssertionError where the rules do not explain one."""
    allowed = list(outcomes(scenario))
    left: list[list[int]] = [[]]
    runs = 0
    while left:
        run = Run(world, scenario, left.pop())
        begun = len(run.choices)
        outcome = run.run()
        runs += 1
        check(outcome, allowed, run.taken)
        for at in range(begun, len(run.taken)):
            for other in run.could[at][1:]:
                prefix = [*run.taken[:at], other]
                if _preemptions(prefix, run.could) <= preemptions:
                    left.append(prefix)
    return runs


def _preemptions(taken: Sequence[int], could: Sequence[Sequence[int]]) -> int:
    return sum(taken[at] != taken[at - 1] and taken[at - 1] in could[at] for at in range(1, len(taken)))


def outcomes(scenario: Scenario) -> Iterator[Outcome]:
    """What the rules say for each order of whole calls."""
    model = FleetModel()
    for call in scenario.before:
        call.on_model(model, 0)

    def orders(model: FleetModel, at: tuple[int, ...], answers: tuple[tuple[object, ...], ...]) -> Iterator[Outcome]:
        ended = True
        for number, calls in enumerate(scenario.sessions):
            if at[number] < len(calls):
                ended = False
                after = model.copy()
                resumed = next((a for a in reversed(answers[number]) if type(a) is int), 0)
                answer = calls[at[number]].on_model(after, resumed)
                yield from orders(
                    after,
                    tuple(place + (n == number) for n, place in enumerate(at)),
                    tuple((*a, answer) if n == number else a for n, a in enumerate(answers)),
                )
        if ended:
            yield Outcome(answers, model.rows())

    none = tuple(() for _ in scenario.sessions)
    yield from orders(model, tuple(0 for _ in scenario.sessions), none)


def check(outcome: Outcome, allowed: Sequence[Outcome], taken: Sequence[int]) -> None:
    """For each message an order of whole calls explains its answers and rows; the same errors in all."""
    whole = _without_messages(outcome)
    like = [other for other in allowed if _without_messages(other) == whole]
    assert like, f"no order explains {whole}\n{outcome}\n{taken}"
    keys = set(outcome.rows).union(*(other.rows for other in like), *map(_keys, [outcome, *like]))
    for key in keys:
        seen = _of(outcome, key)
        assert seen in [_of(other, key) for other in like], f"message {key}: no order explains {seen}\n{taken}"


def _without_messages(outcome: Outcome) -> object:
    return [["granted" if isinstance(a, dict) else a for a in answers] for answers in outcome.answers]


def _keys(outcome: Outcome) -> set[int]:
    return {key for answers in outcome.answers for a in answers if isinstance(a, dict) for key in a}


def _of(outcome: Outcome, key: int) -> object:
    ways = [[a.get(key) for a in answers if isinstance(a, dict)] for answers in outcome.answers]
    return ways, outcome.rows.get(key)
