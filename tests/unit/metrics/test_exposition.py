"""The exposition: what a status object becomes in it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.logs.events import Cause
from supervisor.metrics import CONTENT_TYPE, render
from supervisor.metrics.families import (
    CONNECTION_STATES,
    DAEMON_STATES,
    OF_A_POOL,
    OUTCOMES,
    POOL_STATES,
    WORKER_STATES,
)
from tests.support.documented import alternatives, documented_status
from tests.support.statuses import symptom, typed

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(status: dict[str, Any]) -> Samples:
    """Every sample by name and labels."""
    families = text_string_to_metric_families(render(typed(status)).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(status: dict[str, Any], name: str, **labels: str) -> float | None:
    """One sample; None where there is none."""
    return samples(status).get((name, frozenset(labels.items())))


def pool(status: dict[str, Any]) -> dict[str, Any]:
    """The only pool of the documented status object."""
    facts: dict[str, Any] = status["pools"]["email"]
    return facts


def test_the_documented_status_object_has_every_metric_there_is() -> None:
    text = render(typed(documented_status())).decode()

    named = {family.name for family in text_string_to_metric_families(text) if family.samples}
    assert named == {family.name for family in text_string_to_metric_families(text)}
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("states", "path"),
    [
        (DAEMON_STATES, ("state",)),
        (POOL_STATES, ("pools", "email", "state")),
        (WORKER_STATES, ("pools", "email", "workers", "0", "state")),
        (CONNECTION_STATES, ("pools", "email", "consumer", "connection", "state")),
    ],
)
def test_states_are_those_of_the_control_protocol(states: tuple[str, ...], path: tuple[str, ...]) -> None:
    assert states == alternatives(*path)


def test_one_state_is_1_and_every_other_0() -> None:
    status = documented_status()
    pool(status)["state"] = "held"

    states = {state: value(status, "preforkd_pool_state", pool="email", state=state) for state in POOL_STATES}
    assert states == dict.fromkeys(POOL_STATES, 0.0) | {"held": 1.0}


def test_outcomes_that_never_came_are_there_from_the_start() -> None:
    status = documented_status()
    pool(status)["measures"]["outcomes"] = {"done": 3, "delivered": 4}

    found = {outcome: value(status, "preforkd_messages_total", pool="email", outcome=outcome) for outcome in OUTCOMES}
    assert found == dict.fromkeys(OUTCOMES, 0.0) | {"done": 3.0}
    assert value(status, "preforkd_deliveries_total", pool="email") == 4.0


def test_buckets_add_up_to_the_count() -> None:
    status = documented_status()
    pool(status)["measures"]["handler_s"] = {"le": [0.1, 2.5], "counts": [2, 3, 1], "sum": 7.5, "count": 6}

    def bucket(le: str) -> float | None:
        return value(status, "preforkd_handler_duration_seconds_bucket", pool="email", le=le)

    assert [bucket("0.1"), bucket("2.5"), bucket("+Inf")] == [2.0, 5.0, 6.0]
    assert value(status, "preforkd_handler_duration_seconds_count", pool="email") == 6.0
    assert value(status, "preforkd_handler_duration_seconds_sum", pool="email") == 7.5


def test_exits_of_one_cause_are_added_up_over_statuses_and_signals() -> None:
    status = documented_status()
    crash = {"pool": "email", "kind": "worker", "cause": "crash", "status": 70, "signal": None, "count": 3}
    status["exits"] = [crash, crash | {"status": None, "signal": "SIGSEGV", "count": 2}]

    assert value(status, "preforkd_exits_total", pool="email", kind="worker", cause="crash") == 5.0


@pytest.mark.parametrize("kind", ["worker", "forkserver", "consumer"])
@pytest.mark.parametrize("cause", Cause)
def test_every_cause_is_there_before_the_first_exit(kind: str, cause: Cause) -> None:
    status = documented_status() | {"exits": []}

    assert value(status, "preforkd_exits_total", pool="email", kind=kind, cause=cause) == 0.0


def test_a_pool_that_is_gone_has_no_metrics_any_more_and_a_sidecar_has_exits() -> None:
    status = documented_status()
    gone = {"pool": "gone", "kind": "worker", "cause": "crash", "status": 70, "signal": None, "count": 3}
    status["exits"] = [gone, gone | {"pool": "", "kind": "hooks"}]

    found = samples(status)
    assert not [labels for _name, labels in found if ("pool", "gone") in labels]
    assert value(status, "preforkd_exits_total", pool="", kind="hooks", cause="crash") == 3.0


def test_a_consumer_that_has_said_nothing_yet_has_no_zeros_that_look_like_news() -> None:
    status = documented_status()
    pool(status)["measures"] = {}
    pool(status)["consumer"]["at"] = ""

    names = {name for name, _labels in samples(status)}
    assert not [name for name in names if name.startswith(("preforkd_messages", "preforkd_deliveries"))]
    assert not [name for name in names if name.startswith(("preforkd_queue", "preforkd_ledger", "preforkd_handler"))]
    assert not names & {"preforkd_symptom", "preforkd_failed_runs_total", "preforkd_publishes_total"}
    assert "preforkd_pool_state" in names


def test_workers_are_counted_by_state_and_only_living_ones_measured() -> None:
    status = documented_status()
    worker = pool(status)["workers"][0] | {"state": "running", "elapsed_s": 2.5}
    dead = worker | {"name": "email/1", "pid": None, "state": "backoff", "elapsed_s": 0.0}
    pool(status)["workers"] = [worker, dead, dead | {"name": "email/2"}]

    assert value(status, "preforkd_workers", pool="email", state="backoff") == 2.0
    assert value(status, "preforkd_workers", pool="email", state="idle") == 0.0
    assert value(status, "preforkd_worker_cpu_seconds_total", pool="email", worker="email/0") == 0.5
    assert value(status, "preforkd_worker_cpu_seconds_total", pool="email", worker="email/1") is None
    assert value(status, "preforkd_oldest_run_seconds", pool="email") == 2.5


@pytest.mark.parametrize(
    ("state", "up"), [("starting", 0), ("consuming", 1), ("paused", 1), ("draining", 1), ("backoff", 0), ("held", 0)]
)
def test_a_consumer_is_up_while_it_is_at_work(state: str, up: int) -> None:
    status = documented_status()
    pool(status)["consumer"]["state"] = state

    assert state in alternatives("pools", "email", "consumer", "state")
    assert value(status, "preforkd_service_up", pool="email", kind="consumer") == up


def test_symptoms_are_told_apart() -> None:
    status = documented_status()
    pool(status)["symptoms"] = [symptom("queue.shared"), symptom("pool.new")]

    assert value(status, "preforkd_symptom", pool="email", symptom="shared") == 1.0
    assert value(status, "preforkd_symptom", pool="email", symptom="starved") == 0.0
    assert value(status, "preforkd_symptom", pool="email", symptom="pool.new") == 1.0, "not in the table"


def test_what_the_master_sees_is_known_while_the_consumer_is_away() -> None:
    status = documented_status()
    pool(status)["symptoms"] = [symptom("pool.new")]
    pool(status)["consumer"]["at"] = ""

    assert value(status, "preforkd_symptom", pool="email", symptom="pool.new") == 1.0
    assert value(status, "preforkd_symptom", pool="email", symptom="starved") is None


def test_any_name_of_a_pool_comes_back_as_it_was() -> None:
    status = documented_status()
    name = 'a"b\\c\nd'
    status["pools"] = {name: pool(status)}

    assert value(status, "preforkd_holds_total", pool=name) == 0.0


def test_the_start_is_a_unix_time() -> None:
    assert value(documented_status(), "preforkd_start_time_seconds") == 1795341600.0


def test_a_daemon_without_pools_has_metrics() -> None:
    found = samples(documented_status() | {"pools": {}, "exits": [], "sidecars": []})

    assert found and all(math.isfinite(value) for value in found.values())
    assert not {name for name, _labels in found} & set(OF_A_POOL)
