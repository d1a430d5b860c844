"""Random calls: compared with the rules one after the other, in every order of two at a time, and from threads."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.fleet_model import Epoch, FleetModel
from tests.support.fleet_steps import STEPPED, Call, Register, Scenario, Simple, Takeover, Turn, World, explore
from tests.support.fleet_store import Entry, FleetStore, Holder, StoreError

SOAK = "PREFORKD_SOAK" in os.environ
HOSTS = "abc"
KEYS = range(1, 6)
RUNS = [(1, 1), (1, 1), (1, 2), (2, 1)]


@pytest.fixture(scope="module")
def world(fleet_database: FleetStore) -> Iterator[World]:
    yield World(fleet_database)


def random_call(rng: random.Random, model: FleetModel) -> Call:
    """One that the model has applied. Most are turns of live holders."""
    host = rng.choice(HOSTS)
    me = model.live.get(host) or (host, max(1, model.registered.get(host, 0)))
    call = _random(rng, model, host, me)
    call.on_model(model, 0)
    return call


def _random(rng: random.Random, model: FleetModel, host: str, me: Epoch) -> Call:
    turn = model.turns.get(me, 0) + (rng.random() < 0.03)
    kind = rng.random()
    if kind < (0.06 if host in model.live else 0.6) or host not in model.registered:
        return Register(host, rng.choice(["here", "here", "elsewhere"]), rng.choice([None, (me, turn)]))
    if kind < 0.12:
        return Simple("forget", host)
    if kind < 0.15:
        return Simple("leave", me, turn)
    if kind < 0.18:
        return Simple("resume", me)
    if kind < 0.26:
        return _takeover(rng, model, me)
    entries = [_entry(rng, model, me, key) for key in rng.sample(KEYS, rng.randrange(4))]
    claims = [e for e, is_claim in entries if is_claim]
    return Turn(me, claims, [e for e, is_claim in entries if not is_claim], turn)


def _takeover(rng: random.Random, model: FleetModel, me: Epoch) -> Call:
    known = sorted(model.fenced) if rng.random() < 0.5 else sorted(model.live.values())
    others = [epoch for epoch in known if epoch[0] != me[0]]
    if not others:
        return Simple("resume", me)
    other = rng.choice(others)
    return Takeover(rng.choice(["fence", "lose"]), me, other, model.turns[other] - (rng.random() < 0.3))


def _entry(rng: random.Random, model: FleetModel, me: Epoch, key: int) -> tuple[Entry, bool]:
    """As a rule what a holder would do: settle what it has, claim what it has not."""
    row = model.open.get(key)
    if row is not None and row.epoch == me and rng.random() < 0.8:
        return Entry(key, rng.choice("oordpgRDPu"), row.run), False
    is_claim = rng.random() < 0.8
    return Entry(key, rng.choice("ccccRDP" if is_claim else "ordpgRDPu"), rng.choice(RUNS)), is_claim


@pytest.mark.parametrize("seed", range(200 if SOAK else 10))
def test_random_calls_are_answered_by_the_rules(world: World, seed: int) -> None:
    rng, model, answered = random.Random(seed), FleetModel(), FleetModel()
    world.clear(Scenario([Register(host) for host in HOSTS], []))
    for host in HOSTS:
        for one in (model, answered):
            one.register(host, "here")
    kinds: Counter[str] = Counter()
    for _ in range(100):
        call = random_call(rng, model)
        expected = call.on_model(answered, 0)
        sql, values = (
            call.on_store(world, 0) if not (isinstance(call, Register) and call.silent) else _known(world, call)
        )
        try:
            rows = world.callers[0].ask(sql, *values)
        except StoreError as error:
            answer: object = error.sqlstate
        else:
            world.learn()
            answer = call.answer(world, rows)
        assert answer == expected, (seed, call)
        assert world.rows() == answered.rows(), (seed, call)
        kinds[str(expected) if not isinstance(expected, dict) else "refused" if expected else "granted"] += 1
    assert kinds["granted"] + kinds["refused"] > 20


def _known(world: World, call: Register) -> tuple[str, tuple[object, ...]]:
    assert call.silent is not None
    known = call if call.silent[0] in world.epochs else call._replace(silent=None)
    return known.on_store(world, 0)


@pytest.fixture(scope="module")
def stepping(fleet_database: FleetStore, world: World) -> Iterator[World]:
    fleet_database.make(STEPPED)
    yield world
    fleet_database.make()


@pytest.mark.parametrize("seed", range(300 if SOAK else 12))
def test_random_calls_at_the_same_time_are_answered_by_the_rules(stepping: World, seed: int) -> None:
    rng, model = random.Random(seed), FleetModel()
    before: list[Call] = [Register(host) for host in HOSTS]
    for call in before:
        call.on_model(model, 0)
    before += [random_call(rng, model) for _ in range(8)]
    known = {(host, number) for host, last in model.registered.items() for number in range(1, last + 1)}
    at_once = [[random_call(rng, one) for _ in range(number)] for one, number in ((model.copy(), 2), (model.copy(), 1))]
    at_once = [[call for call in calls if _epochs(call) <= known] for calls in at_once]
    assert explore(stepping, Scenario(before, at_once), 2 if SOAK else 1)


def _epochs(call: Call) -> set[Epoch]:
    """Those that it needs."""
    if isinstance(call, Turn):
        return {call.me}
    if isinstance(call, Takeover):
        return {call.me, call.other}
    if isinstance(call, Register):
        return {call.silent[0]} if call.silent else set()
    return set() if call.what == "forget" else {call.of}


# ---- threads ------------------------------------------------------------------------------------------------------


def test_batches_in_opposite_orders_never_wait_for_each_other_and_no_message_is_done_twice(
    fleet_database: FleetStore,
) -> None:
    fleet_database.make()
    holders = [fleet_database.holder(f"host{number}") for number in range(4)]
    errors: list[BaseException] = []
    threads = [threading.Thread(target=_work, args=(h, seed, errors)) for seed, h in enumerate(holders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    done = Counter(row.key for row in fleet_database.settled_rows() if row.state == "o")
    assert set(done.values()) == {1}
    assert len(done) > 100
    assert {row.key for row in fleet_database.open_rows()} & done.keys() == set()


def _work(holder: Holder, seed: int, errors: list[BaseException]) -> None:
    """Take random messages in random orders, and settle most of what was taken before."""
    rng, mine = random.Random(seed), set[int]()
    try:
        for number in range(1000 if SOAK else 150):
            keys = rng.sample(range(400), 20)
            claims = [Entry(key) for key in keys if key not in mine]
            ending = rng.sample(sorted(mine), len(mine) * 2 // 3)
            refused = holder.call(claims, [Entry(key, rng.choice("ouRu")) for key in ending])
            assert not refused.keys() & set(ending)
            mine = {row[0] for row in holder.mine()}
            assert {e.key for e in claims} - refused.keys() <= mine
            if number % 40 == 39:
                holder.caller.ask("SELECT preforkd.maintain_1(3)")
                again = holder.store.unregistered(holder.host, holder.ledger)
                assert again.register() is None
                holder = again
    except BaseException as error:  # told by the test itself
        errors.append(error)
