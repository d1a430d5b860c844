"""When the daemon is ready, why it is not, and which differences of two states are none."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from supervisor.web.readiness import reasons_not_ready, without_clocks

READY: dict[str, Any] = {
    "state": "running",
    "uptime_s": 1.0,
    "pools": {
        "email": {
            "state": "ok",
            "why": "",
            "workers": [{"name": "email/0", "elapsed_s": 0.0}],
            "consumer": {
                "state": "consuming",
                "why": "",
                "at": "t0",
                "connection": {"state": "connected", "since_s": 1.0},
            },
        }
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A ready status with one thing changed."""
    status = copy.deepcopy(READY)
    table = status
    *way, last = path.split(".")
    for name in way:
        table = table[name]
    table[last] = value
    return status


@pytest.mark.parametrize("status", [READY, changed("state", "reloading"), changed("pools", {})])
def test_it_is_ready_while_all_pools_consume(status: dict[str, Any]) -> None:
    assert reasons_not_ready(status) == []


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("state", "starting", "the daemon is starting"),
        ("state", "stopping", "the daemon is stopping"),
        ("pools.email.consumer.state", "paused", "pool email: its consumer is paused"),
        ("pools.email.consumer.connection.state", "connecting", "pool email: the broker connection is connecting"),
    ],
)
def test_each_reason_why_not_is_told(path: str, value: str, reason: str) -> None:
    assert reasons_not_ready(changed(path, value)) == [reason]


def test_a_held_pool_says_why() -> None:
    status = changed("pools.email.consumer.state", "held")
    status["pools"]["email"]["why"] = "the handler cannot be imported"

    assert reasons_not_ready(status) == [
        "pool email: its consumer is held (the handler cannot be imported)",
    ]


@pytest.mark.parametrize("state", ["held", "degraded"])
def test_a_pool_that_is_not_well_is_not_ready_although_its_consumer_consumes(state: str) -> None:
    status = changed("pools.email.state", state)
    status["pools"]["email"]["why"] = "email/0 left: crash"

    assert reasons_not_ready(status) == [f"pool email is {state} (email/0 left: crash)"]


@pytest.mark.parametrize("path", ["uptime_s", "pools.email.consumer.at", "pools.email.consumer.connection.since_s"])
def test_clocks_are_no_news(path: str) -> None:
    assert without_clocks(changed(path, 99.0)) == without_clocks(READY)


@pytest.mark.parametrize(
    ("path", "value"),
    [("state", "stopping"), ("pools.email.consumer.state", "paused"), ("pools.email.workers", []), ("pools", {})],
)
def test_everything_else_is(path: str, value: Any) -> None:
    assert without_clocks(changed(path, value)) != without_clocks(READY)
