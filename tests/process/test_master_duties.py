"""Duties of the master turned alone: the start, the states of pools, terminations, starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.config.schema import (
    BrokerConfig,
    Config,
    DaemonConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
)
from supervisor.errors import BootError, ControlError, StateError
from supervisor.master.control.pool_states import PoolStates
from supervisor.master.duties import UntilStop
from supervisor.master.exits.history import History
from supervisor.master.pool.children import Child, Children, Kind, Plan
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.starts import Spawner
from supervisor.master.reload.canary import Canary
from supervisor.master.reload.reload import ReloadContext, Reloads
from supervisor.master.reload.scaling import Scaling
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.startup import DaemonStart
from supervisor.master.stop.stopping import DaemonStop, Removals
from supervisor.master.stop.terminations import GRACE_S, Terminations
from supervisor.scoreboard.words import Intent
from supervisor.system.reactor import Reactor


class Books:
    """What the duties of a master share, without a process."""

    def __init__(self, directory: Path) -> None:
        settings = {name: PoolConfig(name=name, queue=name, handler="m:f", workers=1) for name in ("email", "sms")}
        daemon = DaemonConfig(state_dir=str(directory), runtime_dir=str(directory), stop_timeout_s=7.0)
        hooks = HooksConfig(on_dead="true")
        self.config = Config("", daemon, LogConfig(), BrokerConfig(), LedgerConfig(), settings, hooks=hooks)
        self.children, self.reactor, self.history = Children(), Reactor(), History(directory)
        self.pools = Pools(self.config, self.children, self.history.youngest, self.reactor)
        self.stop = DaemonStop(self.pools, self.children)
        self.terminations = Terminations(self.children)
        self.sidecars = Sidecars(self.pools, self.stop, self.history, self.children, self.reactor, self.terminations)
        self.told: list[Mapping[str, str]] = []
        self.startup = DaemonStart(self.pools, self.stop, self.told.append, 0.0)

    def make_ready(self, name: str) -> None:
        """All children of this pool are ready."""
        for spec in self.pools[name].specs:
            spec.child = Child(name, spec.kind, spec.slot, 4711, 1, 1, 0.0, ready_s=0.0)

    def hold(self, name: str, incurable: bool = False) -> None:
        """The workers of this pool are held."""
        for spec in self.pools[name].workers:
            spec.held, spec.why, spec.incurable = True, f"{spec.name} cannot boot: no", incurable


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.pools.close()
    made.history.close()
    made.reactor.close()


# ---- the start ------------------------------------------------------------------------------------------------------


def test_the_start_is_over_once_and_names_the_pools_that_are_held(books: Books) -> None:
    books.make_ready("email")
    books.startup.turn(1.0)
    assert (books.startup.ready, books.told) == (False, [])
    books.hold("sms")
    for now_s in (2.0, 3.0):
        books.startup.turn(now_s)
    assert (books.startup.ready, books.startup.failure) == (True, None)
    assert books.told == [{"sms": "sms/0 cannot boot: no"}]
    assert not books.stop.under_way


@pytest.mark.parametrize(("incurable", "status"), [(False, 1), (True, 78)])
def test_a_start_without_any_pool_that_works_stops_the_daemon(books: Books, incurable: bool, status: int) -> None:
    for name in books.pools:
        books.hold(name, incurable)
    books.startup.turn(1.0)
    assert books.startup.failure == ("pools.email: email/0 cannot boot: no\npools.sms: sms/0 cannot boot: no", status)
    assert (books.startup.ready, books.told) == (False, [])
    assert books.stop.current is not None
    assert (books.stop.current.requested_by, books.stop.current.timeout_s) == ("failed start", 7.0)


# ---- pools ----------------------------------------------------------------------------------------------------------


class Hooks:
    """What the hooks are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.told.append(f"{facts['pool']} {facts['event']}")


def test_the_state_of_a_pool_that_comes_back_after_its_removal_is_news(books: Books) -> None:
    hooks: Any = Hooks()
    states = PoolStates(books.pools, hooks)
    books.hold("sms")
    states.turn(1.0)
    states.turn(2.0)
    assert hooks.told == ["sms pool.held"]
    books.pools.remove(books.pools["sms"])
    states.turn(3.0)
    books.pools.add(books.config, books.config.pools["sms"])
    books.hold("sms")
    states.turn(4.0)
    assert hooks.told == ["sms pool.held"] * 2


# ---- removals -------------------------------------------------------------------------------------------------------


def test_a_removed_pool_is_closed_when_its_children_have_ended(books: Books) -> None:
    removals, pool = Removals(books.pools, books.children), books.pools["sms"]
    worker = Child("sms", Kind.WORKER, 0, 2**22 + 1, 1, 1, 0.0, slot_file=pool.slots[0])
    pool.workers[0].child = worker
    books.children.add(worker)
    removals.begin(pool, "reload")
    removals.turn(1.0)
    assert (worker.intent, worker.requested_by, "sms" in books.pools) == (Intent.STOP, "reload", True)
    assert not any(pool.wants(spec) for spec in pool.specs)
    assert removals.due_s < float("inf")
    books.children.remove(worker.pid)
    removals.turn(2.0)
    assert (list(books.pools), removals.due_s) == (["email"], float("inf"))
    assert not books.stop.under_way, "only this pool has stopped"


class LockedSlots:
    """Survivors that find a slot of an added pool locked by a process that is no worker."""

    def admit(self, pool: Pool, timeout_s: float) -> None:
        raise StateError("0.slot: locked by pid 1, which is no worker of ours")


def reloads(books: Books, config: Config, removals: Removals, survivors: Any = None) -> Reloads:
    """Reloads that read this configuration."""
    scaling = Scaling(books.pools.values(), books.terminations)
    context = ReloadContext(
        books.pools, books.reactor, books.terminations, scaling, removals, survivors, lambda log: None
    )
    books.startup.ready = True
    return Reloads(lambda: config, context, books.startup, books.stop)


def test_an_added_pool_whose_slots_cannot_be_used_goes_again_with_the_reload(books: Books) -> None:
    removals = Removals(books.pools, books.children)
    added = PoolConfig(name="push", queue="push", handler="m:f", workers=1)
    config = msgspec.structs.replace(books.config, pools={**books.config.pools, "push": added})
    with pytest.raises(StateError, match="no worker of ours"):
        reloads(books, config, removals, LockedSlots()).ask("SIGHUP", {})
    removals.turn(1.0)
    assert (list(books.pools), books.pools.config) == (["email", "sms"], books.config)


def test_a_pool_that_has_passed_its_trial_waits_for_the_others_without_an_end(books: Books) -> None:
    pool = books.pools["email"]
    pool.follow_plan(Plan(on_trial=True, canary=0))
    canary = Canary(pool, books.config, books.reactor, 0.0)
    late_s = canary.due_s
    with pytest.raises(BootError, match="its handler is not imported after"):
        canary.proceed(late_s)
    books.make_ready("email")
    canary.proceed(late_s)
    assert (canary.passed, canary.due_s) == (True, float("inf"))


def test_a_reload_is_refused_before_the_daemon_is_ready_and_during_its_stop(books: Books) -> None:
    refusing = reloads(books, books.config, Removals(books.pools, books.children))
    books.startup.ready = False
    with pytest.raises(ControlError, match="still starting"):
        refusing.ask("SIGHUP", {})
    books.startup.ready = True
    books.stop.request("SIGTERM", 7.0, now=False)
    with pytest.raises(ControlError, match="is stopping"):
        refusing.ask("SIGHUP", {})


# ---- terminations ---------------------------------------------------------------------------------------------------


def test_a_child_that_has_ended_is_not_killed_later(books: Books) -> None:
    terminations = books.terminations
    consumer = Child("email", Kind.CONSUMER, None, 2**22 + 1, 1, 1, 0.0)
    books.children.add(consumer)
    terminations.ask(consumer, "reload", 1.0)
    assert terminations.due_s == 1.0 + GRACE_S
    books.children.remove(consumer.pid)
    terminations.turn(1.0 + GRACE_S)
    assert (consumer.intent, terminations.due_s) == (Intent.STOP, float("inf"))


def test_a_child_that_does_not_leave_is_killed(books: Books) -> None:
    terminations = books.terminations
    consumer = Child("email", Kind.CONSUMER, None, 2**22 + 1, 1, 1, 0.0)
    books.children.add(consumer)
    terminations.ask(consumer, "reload", 1.0)
    terminations.turn(GRACE_S)
    assert consumer.intent is Intent.STOP
    terminations.turn(1.0 + GRACE_S)
    assert consumer.intent is Intent.STOP_KILL


# ---- starts ---------------------------------------------------------------------------------------------------------


def test_no_child_is_started_while_the_daemon_stops(books: Books) -> None:
    duty = UntilStop(Spawner(books.pools, books.sidecars.by_kind.values(), books.reactor), books.stop)
    books.sidecars.follow_config(books.config, 0.0)
    assert duty.due_s == 0.0
    books.stop.request("SIGTERM", 7.0, now=False)
    assert duty.due_s == float("inf")
    duty.turn(1.0)
    assert (books.sidecars.gone, len(books.children)) == (True, 0)
