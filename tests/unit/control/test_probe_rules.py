"""What makes a daemon live and what makes it ready: the one rule for the command line and the web page."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from supervisor.cli.probe import KINDS
from supervisor.control import results
from supervisor.control.probes import RULES, probed, reasons_not_ready
from supervisor.control.results import WORKER_STATES
from supervisor.errors import ControlError
from tests.support import statuses
from tests.support.statuses import Status

READY = statuses.status(1.0, email=statuses.pool(statuses.worker()))
PAUSED = {"by": "alice", "since": statuses.AT}
WORKING = ("idle", "running", "publishing", "leaving")


def changed(**values: Any) -> Status:
    """A ready status with some values changed; `pools__email__state` is one in the pool."""
    status = copy.deepcopy(READY)
    for path, value in values.items():
        *way, last = path.split("__")
        table = status
        for name in way:
            table = table[name]
        table[last] = value
    return status


def reasons(status: Status) -> list[str]:
    return reasons_not_ready(statuses.typed(status))


def not_asked() -> results.Status:
    raise AssertionError("the status was made")


@pytest.mark.parametrize("status", [READY, changed(state="reloading"), changed(pools={})])
def test_it_is_ready_while_all_pools_work(status: Status) -> None:
    assert reasons(status) == []


CONSUMER, CONNECTION = "pools__email__consumer__state", "pools__email__consumer__connection__state"

NOT_READY: list[tuple[dict[str, Any], str]] = [
    ({"state": "starting"}, "the daemon is starting"),
    ({"state": "stopping"}, "the daemon is stopping"),
    ({CONSUMER: "starting"}, "pool email: its consumer is starting"),
    ({CONSUMER: "backoff", "pools__email__consumer__why": "killed"}, "pool email: its consumer is backoff (killed)"),
    ({CONSUMER: "held", "pools__email__why": "no import"}, "pool email: its consumer is held (no import)"),
    ({CONSUMER: "paused"}, "pool email: its consumer is paused"),
    ({CONSUMER: "paused", "pools__email__paused": PAUSED}, "pool email: its consumer is paused (paused by alice)"),
    ({"pools__email__paused": PAUSED}, "pool email is paused by alice"),
    ({CONNECTION: "connecting"}, "pool email: the broker connection is connecting"),
    (
        {CONNECTION: "closed", "pools__email__consumer__connection__why": "mq:5672: refused"},
        "pool email: the broker connection is closed (mq:5672: refused)",
    ),
    ({"pools__email__state": "held", "pools__email__why": "email/0: crash"}, "pool email is held (email/0: crash)"),
    ({"pools__email__state": "held", CONSUMER: "paused"}, "pool email is held"),
    ({"pools__email__state": "degraded", "pools__email__why": "full"}, "pool email is degraded (full)"),
    ({"pools__email__workers": []}, "pool email: no worker is idle or busy"),
]


@pytest.mark.parametrize(("change", "reason"), NOT_READY)
def test_each_reason_why_not_is_told(change: dict[str, Any], reason: str) -> None:
    assert reasons(changed(**change)) == [reason]


@pytest.mark.parametrize("state", WORKER_STATES)
def test_a_pool_needs_one_worker_that_is_idle_or_busy(state: str) -> None:
    alone = changed(pools__email__workers=[statuses.worker(state=state)])
    beside = changed(pools__email__workers=[statuses.worker(state=state), statuses.worker(1)])

    assert bool(reasons(alone)) == (state not in WORKING)
    assert reasons(beside) == []


def test_every_pool_has_to_work_and_each_that_does_not_is_told() -> None:
    held = {"state": "held", "why": "no import"}
    status = statuses.status(
        a=statuses.pool(statuses.worker(), name="a", **held),
        b=statuses.pool(statuses.worker(), name="b"),
        c=statuses.pool(statuses.worker(), name="c", **held),
    )

    assert reasons(status) == ["pool a is held (no import)", "pool c is held (no import)"]


def test_a_master_that_answers_is_live_whatever_its_pools_do() -> None:
    assert probed("live", not_asked) == results.Probed(ok=True, why=[])


def test_the_command_line_offers_the_kinds_that_the_daemon_knows() -> None:
    assert set(KINDS) == set(RULES)
    with pytest.raises(ControlError, match="there is no kind 'well'; there are live, ready"):
        probed("well", not_asked)
