"""What container platforms ask of a daemon: is it alive, is it ready. Pure; the one place of both rules.

The master answers `preforkd status --probe` with them; the web page answers /healthz and /readyz with them.

Alive means that a restart would not help: the master's loop turns, which every answer of the master proves. A broker
that is away, a held pool or a full disk is no reason for a restart. Ready means that every pool does its work now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.control.results import PoolStatus, Probed, Status
from supervisor.errors import ControlError

_UP = ("running", "reloading")
_WORKING = ("idle", "running", "publishing", "leaving")
"""States of a worker that runs messages, or has just run one and is being replaced."""


def probed(kind: str, status: Callable[[], Status]) -> Probed:
    """The answer to a probe of this `kind` (of `RULES`). `status()`: the status object, made only where it is needed.

    Raises ControlError for another kind.
    """
    if kind not in RULES:
        raise ControlError(f"probe: there is no kind {kind!r}; there are {', '.join(RULES)}")
    why = RULES[kind](status)
    return Probed(ok=not why, why=why)


def reasons_not_ready(status: Status) -> list[str]:
    """Why the daemon does not do its work, a line for each reason; [] if it does."""
    return list(_not_ready(status))


def _not_ready(status: Status) -> Iterator[str]:
    if status.state not in _UP:
        yield f"the daemon is {status.state}"
    for name, pool in status.pools.items():
        if reason := _reason_of(pool):
            yield f"pool {name}{reason}"


def _reason_of(pool: PoolStatus) -> str:
    """Why this pool does not work, in words that follow its name; "" if it works. The first reason is the root."""
    consumer, connection = pool.consumer, pool.consumer.connection
    paused = f"paused by {pool.paused.by}" if pool.paused is not None else ""
    if pool.state == "held":  # its consumer takes nothing then
        return f" is held{_because(pool.why)}"
    if consumer.state != "consuming":
        return f": its consumer is {consumer.state}{_because(pool.why or consumer.why or paused)}"
    if connection.state != "connected":
        return f": the broker connection is {connection.state}{_because(connection.why)}"
    if pool.state == "degraded":
        return f" is degraded{_because(pool.why)}"
    if paused:
        return f" is {paused}"
    return "" if any(worker.state in _WORKING for worker in pool.workers) else ": no worker is idle or busy"


def _because(why: str) -> str:
    return f" ({why})" if why else ""


RULES: dict[str, Callable[[Callable[[], Status]], list[str]]] = {
    "live": lambda status: [],
    "ready": lambda status: reasons_not_ready(status()),
}
"""Each kind of probe, and what it finds wrong. `live` asks for nothing: that the master answers is the proof."""
