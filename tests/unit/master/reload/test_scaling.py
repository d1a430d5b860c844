"""Which worker leaves next when all are replaced; histories as data, without processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.master.pool.stand_ins import free_slot
from supervisor.master.reload.scaling import Rollout, Step, next_step
from supervisor.scoreboard.words import Intent

OLD, NEW = 10, 20

SIGNS = {
    "o": (OLD, True, Intent.NONE),  # old, ready
    "O": (OLD, False, Intent.NONE),  # old, still booting
    "l": (OLD, True, Intent.STOP),  # old, asked to leave
    "n": (NEW, True, Intent.NONE),
    "N": (NEW, False, Intent.NONE),
    "m": (NEW, True, Intent.STOP),
}


def spec(slot: int, sign: str) -> ChildSpec:
    """A child spec from a letter; `.` is one without a child."""
    if sign == ".":
        return ChildSpec("email", Kind.WORKER, slot)
    origin, ready, intent = SIGNS[sign]
    child = Child("email", Kind.WORKER, slot, 100 + slot, 1, origin + slot, 0.0, 1.0 if ready else None, intent)
    child.origin = origin
    return ChildSpec("email", Kind.WORKER, slot, child, origin=origin)


def step(signs: str, wanted: int, capacity: int | None = None) -> Step:
    """The next step with child specs like these."""
    specs = [spec(slot, sign) for slot, sign in enumerate(signs)]
    return next_step(specs, wanted, Rollout(NEW, wanted if capacity is None else capacity))


@pytest.mark.parametrize(
    ("signs", "wanted", "spares", "leave"),
    [
        ("oo", 2, {2}, []),  # a new one first
        ("ooN", 2, {2}, []),  # it is not ready yet
        ("oon", 2, {2}, [0]),
        ("lon", 2, {2}, []),  # one after another
        (".on", 2, {2}, []),
        ("Non", 2, {2}, []),
        ("non", 2, {2}, [1]),
        ("nln", 2, {2}, []),
        ("nNn", 2, {2}, []),  # the spare one stays until the last is ready
        ("nnn", 2, set(), [2]),
        ("nnm", 2, set(), []),
        ("nn", 2, set(), []),
        ("Oon", 2, {2}, [0]),  # who was not ready cannot be missed
        ("ooo.", 2, {3}, [2]),  # one too many from a scale-down counts, and goes first
        ("o" * 16 + "nn", 16, {16, 17}, [0, 1]),  # more at a time where there are many
    ],
)
def test_the_next_step(signs: str, wanted: int, spares: set[int], leave: list[int]) -> None:
    found = step(signs, wanted)

    assert (set(found.spares), [spec.slot for spec in found.leave]) == (spares, leave)


@pytest.mark.parametrize(("signs", "over"), [("nn", True), ("nnm", True), ("nN", False), ("on", False), ("n.", False)])
def test_it_is_over_when_every_wanted_slot_has_a_new_worker_that_is_ready(signs: str, over: bool) -> None:
    assert step(signs, 2).over is over


def test_a_slot_that_was_down_before_is_not_waited_for() -> None:
    assert [spec.slot for spec in step("o.on", 3, capacity=2).leave] == [0]


def test_new_workers_that_die_stop_the_replacement() -> None:
    assert step(".on", 2).leave == []
    assert step(".o.", 2).leave == []


def test_more_workers_than_before_are_wanted() -> None:
    assert [spec.slot for spec in step("oon.", 4, capacity=2).leave] == [0]
    assert step("nnn.", 4, capacity=2).over is False


def test_a_free_slot_is_empty_and_has_no_worker() -> None:
    specs = [spec(slot, sign) for slot, sign in enumerate("ooo..")]

    assert free_slot(specs, 2, frozenset()) == 3
    assert free_slot(specs, 2, frozenset({3})) == 4
    assert free_slot(specs[:2], 2, frozenset()) == 2
    assert free_slot(specs[:3], 2, frozenset()) == 3


@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_it_ends_with_new_workers_in_the_wanted_slots_and_never_with_fewer_than_before(
    wanted: int, dice: st.DrawFn
) -> None:
    """A world in which forks and exits take their time, in any order."""
    specs = [spec(slot, "o") for slot in range(wanted)]
    for _ in range(100 * wanted):
        found = next_step(specs, wanted, Rollout(NEW, wanted))
        for one in found.leave:
            assert one.child is not None
            one.child.intent = Intent.STOP
        serving = [one for one in specs if one.ready and one.child and one.child.intent is Intent.NONE]
        assert len(serving) >= wanted
        if found.over and not any(one.child for one in specs[wanted:]):
            break
        _let_something_happen(specs, wanted, found, dice)
    assert [one.child is not None and one.child.origin for one in specs[:wanted]] == [NEW] * wanted
    assert not any(one.child for one in specs[wanted:])


def _let_something_happen(specs: list[ChildSpec], wanted: int, found: Step, dice: object) -> None:
    while len(specs) < max([wanted, *(slot + 1 for slot in found.spares)]):
        specs.append(spec(len(specs), "."))
    happening = []
    for one in specs:
        number = one.slot or 0
        if one.child is None and (number < wanted or number in found.spares):
            happening.append((number, "N"))
        elif one.child is not None and one.child.intent is Intent.STOP:
            happening.append((number, "."))
        elif one.child is not None and not one.ready:
            happening.append((number, "n"))
    if happening:
        number, sign = dice.choice(happening)  # type: ignore[attr-defined]
        specs[number] = spec(number, sign)
