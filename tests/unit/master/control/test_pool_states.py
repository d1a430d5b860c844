"""Which changes of a pool's state are told to the log and the hooks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.master.control import pool_states
from supervisor.master.control.pool_states import PoolStates


class Hooks:
    """What the hooks are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.told.append(facts["event"])


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["starting", "ok consuming"], []),
        (["degraded", "degraded", "ok consuming"], ["pool.degraded", "pool.recovered"]),
        (["held", "ok", "held", "ok", "ok consuming"], ["pool.held", "pool.recovered"]),
        (["degraded", "ok", "degraded"], ["pool.degraded"]),
    ],
)
def test_a_pool_has_recovered_once_its_consumer_consumes(
    states: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_states, "pool_why", lambda pool: "no reason")
    hooks: Any = Hooks()
    pools = PoolStates({}, hooks)
    for state, _, consuming in (state.partition(" ") for state in states):
        pool: Any = SimpleNamespace(name="p", consumer=SimpleNamespace(ready=bool(consuming)))
        pools.announce(pool, state)
    assert hooks.told == told
