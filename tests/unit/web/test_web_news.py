"""Which differences of two states are none. (When a daemon is ready: tests/unit/control/test_probe_rules.py.)"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from supervisor.control import results
from supervisor.web.status_cache import without_clocks
from tests.support import statuses
from tests.support.statuses import Status

READY = statuses.status(1.0, email=statuses.pool(statuses.worker()))


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
