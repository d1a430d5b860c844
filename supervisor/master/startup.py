"""How the daemon's start ends: ready, perhaps with pools that are held, or failed. Master only.

A pool that cannot boot is held; the others go on. The start has failed when all pools are held. The exit status is 78
where an operator must edit something for each of them. It is 1 elsewhere, so that systemd starts the daemon again: the
fault may end by itself (a database that comes up later).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.state import pool_state, pool_why
from supervisor.master.stop.stopping import DaemonStop
from supervisor.system.clock import wall_s

OnReady = Callable[[Mapping[str, str]], None]
"""Told once that the daemon is ready, with the pools that are held nevertheless, and why."""

_FAILED = 1


class StartOutcome(NamedTuple):
    """Each pool is ready or held. `held`: the held pools, and why; `failure`: reason and exit status if all are."""

    held: Mapping[str, str]
    failure: tuple[str, int] | None = None


class DaemonStart:
    """The start of the daemon, a duty. `ready`: it is over, and has not failed; `failure`: the reason and the exit
    status of a start that has failed. `began_s` is CLOCK_MONOTONIC, `began_at_s` the wall clock. `on_ready` is called
    once."""

    does = "conclude the start"
    due_s = float("inf")

    def __init__(self, pools: Pools, stop: DaemonStop, on_ready: OnReady | None, now_s: float) -> None:
        self.began_s, self.began_at_s = now_s, wall_s()
        self.ready = False
        self.failure: tuple[str, int] | None = None
        self._pools = pools
        self._stop = stop
        self._on_ready = on_ready

    def turn(self, now_s: float) -> None:
        """Say that the daemon is ready, or stop it, once each pool is ready or held."""
        if self.ready or (end := outcome(self._pools.values())) is None:
            return
        if end.failure is not None:
            self.failure = end.failure
            self._stop.request("failed start", self._pools.config.daemon.stop_timeout_s, now=False)
            return
        self.ready = True
        log(Event.DAEMON_READY, "ready", took_s=round(now_s - self.began_s, 3), held=list(end.held))
        if self._on_ready is not None:
            self._on_ready(end.held)


def outcome(pools: Collection[Pool]) -> StartOutcome | None:
    """How the start has ended; None while a pool is neither ready nor held. Pure."""
    if not all(map(_decided, pools)):
        return None
    held = {pool.name: pool_why(pool) for pool in pools if pool_state(pool, stopping=False) == "held"}
    if len(held) < len(pools):
        return StartOutcome(held)
    reasons = (why if why.startswith("pools.") else f"pools.{name}: {why}" for name, why in held.items())
    return StartOutcome(held, ("\n".join(reasons), os.EX_CONFIG if all(map(_incurable, pools)) else _FAILED))


def _decided(pool: Pool) -> bool:
    """Whether each child that is wanted is ready or held."""
    wanted = [spec for spec in pool.workers[: pool.config.workers] if spec.slot not in pool.surviving]
    specs = [pool.forkserver, pool.consumer, *wanted]
    return pool_state(pool, stopping=False) == "held" or all(spec.ready or spec.held for spec in specs)


def _incurable(pool: Pool) -> bool:
    return any(spec.incurable for spec in pool.specs if spec.held)
