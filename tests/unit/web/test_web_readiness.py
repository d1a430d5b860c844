"""When the daemon is ready, why it is not, and which differences of two states are none."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from supervisor.control import results
from supervisor.web.read_endpoints import reasons_not_ready
from supervisor.web.status_cache import without_clocks
from tests.support import statuses
from tests.support.statuses import Status

READY = statuses.status(1.0, email=statuses.pool(statuses.worker()))


def reasons(status: Status) -> list[str]:
    return reasons_not_ready(statuses.typed(status))


def still(status: Status) -> results.Status:
    return without_clocks(statuses.typed(status))


def changed(path: str, value: Any) -> Status:
    """A ready status with one thing changed."""
    status = copy.deepcopy(READY)
    table = status
    *way, last = path.split(".")
    for name in way:
        table = table[name]
    table[last] = value
    return status


@pytest.mark.parametrize("status", [READY, changed("state", "reloading"), changed("pools", {})])
def test_it_is_ready_while_all_pools_consume(status: Status) -> None:
    assert reasons(status) == []


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
    assert reasons(changed(path, value)) == [reason]


def test_a_held_pool_says_why() -> None:
    status = changed("pools.email.consumer.state", "held")
    status["pools"]["email"]["why"] = "the handler cannot be imported"

    assert reasons(status) == [
        "pool email: its consumer is held (the handler cannot be imported)",
    ]


@pytest.mark.parametrize("state", ["held", "degraded"])
def test_a_pool_that_is_not_well_is_not_ready_although_its_consumer_consumes(state: str) -> None:
    status = changed("pools.email.state", state)
    status["pools"]["email"]["why"] = "email/0 left: crash"

    assert reasons(status) == [f"pool email is {state} (email/0 left: crash)"]


@pytest.mark.parametrize(
    ("path", "value"),
    [("uptime_s", 99.0), ("pools.email.consumer.at", "later"), ("pools.email.consumer.connection.since_s", 99.0)],
)
def test_clocks_are_no_news(path: str, value: Any) -> None:
    assert still(changed(path, value)) == still(READY)


@pytest.mark.parametrize(
    ("path", "value"),
    [("state", "stopping"), ("pools.email.consumer.state", "paused"), ("pools.email.workers", []), ("pools", {})],
)
def test_everything_else_is(path: str, value: Any) -> None:
    assert still(changed(path, value)) != still(READY)
