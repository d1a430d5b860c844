"""The answer of `/readyz` to a status object, and the comparison of two of them. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.control.results import PoolStatus, Status

_UP = ("running", "reloading")
_UNWELL = ("held", "degraded")


def reasons_not_ready(status: Status) -> list[str]:
    """Why the daemon does not work, a line for each reason; [] if it works."""
    reasons = [] if status.state in _UP else [f"the daemon is {status.state}"]
    for name, pool in status.pools.items():
        consumer, connection = pool.consumer, pool.consumer.connection.state
        if consumer.state != "consuming":
            why = pool.why or consumer.why
            reasons.append(f"pool {name}: its consumer is {consumer.state}" + (f" ({why})" if why else ""))
        elif connection != "connected":
            reasons.append(f"pool {name}: the broker connection is {connection}")
        elif pool.state in _UNWELL:
            reasons.append(f"pool {name} is {pool.state}" + (f" ({pool.why})" if pool.why else ""))
    return reasons


def without_clocks(status: Status) -> Status:
    """The status without values that change with time alone: equal ones need no new event."""
    return replace(status, uptime_s=0.0, pools={name: _still(pool) for name, pool in status.pools.items()})


def _still(pool: PoolStatus) -> PoolStatus:
    connection = replace(pool.consumer.connection, since_s=0.0)
    return replace(pool, consumer=replace(pool.consumer, at="", connection=connection))
