"""Sidecars by the book: whom they are told of, which secrets they get, and when one that dies is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import msgspec
import pytest

from supervisor.config.schema import (
    BrokerConfig,
    Config,
    DaemonConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    WebConfig,
)
from supervisor.logs.events import Cause, Event
from supervisor.master.exits.exit_handler import ExitHandler
from supervisor.master.exits.history import History
from supervisor.master.exits.oom import OomWatch
from supervisor.master.exits.reaper import ReapedChild
from supervisor.master.limits.boots import Probation
from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.pool.exit_records import ExitRecord
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.restarts import STEADY_S
from supervisor.master.pool.starts import Spawner
from supervisor.master.sidecars.sidecars import Sidecars, _first_frame
from supervisor.master.stop.stopping import DaemonStop
from supervisor.master.stop.terminations import Terminations
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

HOOKS = HooksConfig(on_exit="true", webhook="https://host/geheim", causes=("crash",))
BROKER = BrokerConfig(urls=("amqp://user:geheim@host",))


def config(**sections: object) -> Config:
    return Config("f", DaemonConfig(), LogConfig(), BROKER, LedgerConfig(), {}, **sections)  # type: ignore[arg-type]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path)
    yield history
    history.close()


@pytest.fixture
def sidecars(history: History) -> Iterator[Sidecars]:
    reactor, children = Reactor(), Children()
    pools = Pools(config(), children, history, reactor)
    yield Sidecars(pools, DaemonStop(pools, children), history, children, reactor, Terminations(children))
    reactor.close()


def record(cause: Cause, kind: Kind = Kind.WORKER) -> ExitRecord:
    pool, slot = ("email", 0) if kind is Kind.WORKER else ("", None)
    return ExitRecord(
        at="2026-11-22T10:00:00.000Z",
        event=Event.WORKER_EXITED,
        kind=kind,
        pool=pool,
        slot=slot,
        pid=4711,
        generation=1,
        cause=cause,
        status=1,
        stack="s" * 9000,
    )


def waiting(sidecars: Sidecars) -> int:
    (hooks,) = (each for each in sidecars.status() if each.kind == "hooks")
    assert not isinstance(hooks.waiting, msgspec.UnsetType)
    return hooks.waiting


def test_only_exits_of_the_named_causes_are_told(sidecars: Sidecars) -> None:
    sidecars.follow_config(config(hooks=HOOKS), 0.0)
    sidecars.tell_exit(record(Cause.CLEAN_STOP))
    assert waiting(sidecars) == 0
    sidecars.tell_exit(record(Cause.CRASH))
    assert waiting(sidecars) == 1


def test_nothing_waits_where_no_hook_is_configured(sidecars: Sidecars) -> None:
    sidecars.tell("hold", {})
    sidecars.follow_config(config(hooks=HOOKS), 0.0)
    sidecars.tell("hold", {})
    sidecars.follow_config(config(), 0.0)
    assert sidecars.status() == []
    sidecars.follow_config(config(hooks=HOOKS), 0.0)
    assert waiting(sidecars) == 0


@pytest.mark.parametrize("kind", [Kind.WEB, Kind.HOOKS])
def test_each_gets_its_own_secrets_only(kind: Kind) -> None:
    first = _first_frame(kind, config(hooks=HOOKS, web=WebConfig("127.0.0.1:0")))
    assert first is not None
    assert (first.broker == BROKER) is (kind is Kind.WEB)
    assert ("geheim" in first.hooks.webhook) is (kind is Kind.HOOKS)


def ended(sidecars: Sidecars, history: History, ready_s: float | None, stopping: bool = False) -> float | None:
    """A hooks process ends with status 1; in how many seconds the next one is started."""
    handler = ExitHandler({}, history, OomWatch(None), sidecars.by_kind, sidecars.tell_exit)
    spec, died_s = sidecars.by_kind[Kind.HOOKS].spec, monotonic_s()
    spec.started(child := Child("", Kind.HOOKS, None, 4711, 1, 1, died_s, ready_s=ready_s))
    handler.register([ReapedChild(child, 1 << 8, getrusage(RUSAGE_SELF), died_s)], stopping)
    assert spec.child is None
    return None if spec.due_s is None else round(spec.due_s - died_s, 3)


def test_one_that_dies_again_and_again_is_backed_off_and_held_though_it_was_ready(
    sidecars: Sidecars, history: History
) -> None:
    sidecars.follow_config(config(hooks=HOOKS), 0.0)
    delays = [ended(sidecars, history, monotonic_s()) for _ in range(12)]
    assert delays[0] == 0.0
    assert delays[1:4] == sorted(set(delays[1:4])), "each waits longer"
    assert delays[-1] == 60.0
    assert [each.state for each in sidecars.status()] == ["held"]


def test_one_that_was_ready_for_long_is_replaced_at_once(sidecars: Sidecars, history: History) -> None:
    sidecars.follow_config(config(hooks=HOOKS), 0.0)
    for _ in range(12):
        assert ended(sidecars, history, monotonic_s() - STEADY_S - 1) == 0.0


def test_none_is_replaced_while_the_daemon_stops(sidecars: Sidecars, history: History) -> None:
    sidecars.follow_config(config(hooks=HOOKS), 0.0)
    assert ended(sidecars, history, None, stopping=True) is None
    assert Spawner({}, sidecars.by_kind.values(), Reactor()).due_s == float("inf")


def test_progress_ends_the_hold_of_one_as_it_ends_that_of_a_pool(sidecars: Sidecars) -> None:
    spec, probation = sidecars.by_kind[Kind.HOOKS].spec, Probation([], sidecars.by_kind.values())
    spec.hold()
    spec.started(Child("", Kind.HOOKS, None, 4711, 1, 1, 100.0, ready_s=100.0))
    assert probation.due_s == 100.0 + STEADY_S
    probation.turn(99.0 + STEADY_S)
    assert spec.held
    probation.turn(100.0 + STEADY_S)
    assert not spec.held
