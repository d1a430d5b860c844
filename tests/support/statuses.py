"""Status objects as docs/control-protocol.md has them, for tests of what reads them; and exit records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.control import results
from supervisor.link.consumer_state import ConnectionStatus, Measurements, QueueStatus
from supervisor.link.frames import Snapshot
from supervisor.symptoms import Symptom

Status = dict[str, Any]

AT = "2026-11-22T10:00:00.000Z"
USED = {"rss_bytes": 1024, "cpu_s": 0.5}


def worker(slot: int = 0, pool: str = "email", **facts: Any) -> Status:
    """A worker that has nothing to do."""
    idle = {
        "name": f"{pool}/{slot}",
        "slot": slot,
        "pid": 100 + slot,
        "generation": 1,
        "state": "idle",
        "message_id": "",
        "attempt": 0,
        "elapsed_s": 0.0,
        "limit_s": 0.0,
        "limit_source": "pool",
        "handled": 0,
        "rss_bytes": 20 * 1024**2,
        "cpu_s": 0.5,
        "restarts": 0,
        "restart_in_s": None,
    }
    return idle | facts


def busy(slot: int = 0, elapsed_s: float = 1.0, limit_s: float = 30.0, **facts: Any) -> Status:
    """A worker that runs a message."""
    running = {"state": "running", "message_id": f"order-{slot}", "attempt": 1}
    return worker(slot, **{**running, "elapsed_s": elapsed_s, "limit_s": limit_s, **facts})


def pool(*workers: Status, name: str = "email", done: int = 0, failed: int = 0, **facts: Any) -> Status:
    """A pool that is well."""
    counters = (
        "delivered",
        "done",
        "failed",
        "retried",
        "dead",
        "parked",
        "saved",
        "gone",
        "duplicate",
        "returned",
        "dropped",
    )
    well = {
        "state": "ok",
        "why": "",
        "queue": name,
        "wanted": len(workers),
        "configured": len(workers),
        "paused": None,
        "workers": list(workers),
        "forkserver": forkserver(),
        "consumer": consumer(),
        "symptoms": [],
        "depth": {"ready": 5, "consumers": 1},
        "counters": {**dict.fromkeys(counters, 0), "done": done, "failed": failed},
        "restarts": {"worker": 0, "forkserver": 0, "consumer": 0},
        "holds": 0,
        "measures": {},
    }
    return well | facts


def consumer(**facts: Any) -> Status:
    """A consumer that is connected."""
    connection = {"state": "connected", "host": "mq:5672", "since_s": 90.0, "opened": 1, "why": ""}
    well = {"pid": 10, "state": "consuming", "restarts": 0, "why": "", "connection": connection, "in_flight": 2}
    return {**well, **USED, "notes": [], "at": AT, **facts}


def forkserver(**facts: Any) -> Status:
    """A forkserver that is ready."""
    return {"pid": 9, "state": "ready", "restarts": 0, "why": "", **USED, **facts}


def sidecar(kind: str, **facts: Any) -> Status:
    """A child of no pool that is ready."""
    return {"kind": kind, "pid": 12, "state": "ready", "restarts": 0, "why": "", **facts}


def symptom(name: str) -> Status:
    """A fault of a pool."""
    return {"name": name, "text": "", "degrades": False, "since": AT}


def exits(cause: str = "crash", count: int = 1, **facts: Any) -> Status:
    """A row of the tally of exits."""
    return {"pool": "email", "kind": "worker", "cause": cause, "status": None, "signal": None, "count": count, **facts}


def status(uptime_s: float = 60.0, exits: list[Status] | None = None, **pools: Status) -> Status:
    """A running daemon with these pools."""
    return {
        "version": "1.2.3",
        "pid": 1,
        "state": "running",
        "started_at": "2026-11-22T09:59:00.000Z",
        "uptime_s": uptime_s,
        **USED,
        "config": "/etc/p.toml",
        "state_dir": "/s",
        "runtime_dir": "/r",
        "reload": None,
        "pools": pools,
        "sidecars": [],
        "exits": exits or [],
    }


def typed(status: Status) -> results.Status:
    """A status object as its readers have it."""
    return msgspec.convert(status, results.Status)


def exit_record(slot: int | None = 0, cause: str = "crash", **facts: Any) -> Status:
    """The record of a worker that died with a message."""
    died = {
        "at": AT,
        "kind": "worker",
        "pool": "email",
        "slot": slot,
        "pid": 99,
        "cause": cause,
        "status": None,
        "signal": "SIGSEGV",
        "uptime_s": 12.0,
        "run": "in_doubt",
        "attempt": 1,
        "message_id": "order-1",
    }
    return died | facts


def snapshot(at_s: float, symptoms: Sequence[Symptom] = (), **connection: Any) -> Snapshot:
    """What a consumer with this connection tells."""
    parts = ConnectionStatus(**connection), QueueStatus(), {"done": 0}, 0, list(symptoms), Measurements()
    return Snapshot(at_s, *parts)
