"""What the master says of a pool: its state, why, and the symptoms of master and consumer together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.config.schema import BrokerConfig, Config, DaemonConfig, LedgerConfig, LogConfig, PoolConfig
from supervisor.events import Event
from supervisor.link.frames import Snapshot
from supervisor.master.children import Children
from supervisor.master.pool import Pool
from supervisor.master.status import pool_state, pool_status, pool_why
from supervisor.symptoms import Symptom


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """A pool that is ready."""
    settings = PoolConfig(name="email", queue="email", handler="m:f", workers=1)
    daemon = DaemonConfig(state_dir=str(tmp_path), runtime_dir=str(tmp_path))
    pool = Pool(
        Config("", daemon, LogConfig(), BrokerConfig(), LedgerConfig(), {"email": settings}), settings, Children(), 0
    )
    pool.was_ready = True
    pool.snapshot = _told()
    yield pool
    pool.close()


def _told(*symptoms: Symptom, state: str = "connected", why: str = "") -> Snapshot:
    return Snapshot(1.0, {"state": state, "why": why}, {}, {}, 0, list(symptoms), {})


def test_a_pool_is_degraded_while_a_symptom_says_so(pool: Pool) -> None:
    pool.symptoms.notice(Event.QUEUE_SHARED, "2 consumers")
    assert (pool_state(pool, False), pool_why(pool)) == ("ok", "")

    pool.symptoms.notice(Event.CONSUMER_STARVED, "nothing comes", degrades=True)
    assert (pool_state(pool, False), pool_why(pool)) == ("degraded", "nothing comes")

    pool.symptoms.heal(Event.CONSUMER_STARVED)
    assert pool_state(pool, False) == "ok"


def test_the_symptoms_of_master_and_consumer_are_shown_together(pool: Pool) -> None:
    pool.symptoms.notice(Event.CONSUMER_STARVED, "nothing comes")
    pool.snapshot = _told(Symptom("queue.shared", "2 consumers", True, 0.0))

    shown = pool_status(pool, pool_state(pool, False), 1.0)

    assert [each["name"] for each in shown["symptoms"]] == ["consumer.starved", "queue.shared"]
    shared = {"name": "queue.shared", "text": "2 consumers", "degrades": True, "since": "1970-01-01T00:00:00.000Z"}
    assert shown["symptoms"][1] == shared
    assert shown["consumer"]["notes"] == ["nothing comes", "2 consumers"]
    assert (shown["state"], shown["why"]) == ("degraded", "2 consumers")


def test_a_hold_and_a_lost_connection_are_worse_than_a_symptom(pool: Pool) -> None:
    pool.snapshot = _told(Symptom("queue.shared", "2 consumers", True, 0.0), state="connecting", why="refused")
    assert pool_why(pool) == "refused"

    pool.workers[0].held, pool.workers[0].why = True, "email/0 left: crash"
    assert (pool_state(pool, False), pool_why(pool)) == ("held", "email/0 left: crash")
