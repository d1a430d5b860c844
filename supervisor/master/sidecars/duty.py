"""The duty that keeps the sidecars as the configuration and the stop of the daemon ask for. Master only."""

from __future__ import annotations

from supervisor.master.pool.pools import Pools
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.stop.phases import CLOSE_S, HURRY_S, Phase
from supervisor.master.stop.stopping import DaemonStop


class SidecarDuty:
    """Starts, watches and stops the sidecars: they go when all pools are gone."""

    does = "keep the sidecars"

    def __init__(self, sidecars: Sidecars, pools: Pools, stop: DaemonStop) -> None:
        self._sidecars = sidecars
        self._pools = pools
        self._stop = stop

    @property
    def due_s(self) -> float:
        """When a sidecar must have left or be ready, or is to be started (CLOCK_MONOTONIC)."""
        if self._stop.under_way:
            return self._sidecars.kill_due_s
        return min(self._sidecars.kill_due_s, self._sidecars.start_due_s)

    def turn(self, now_s: float) -> None:
        """Bring them to what is wanted, then send what waits for them."""
        stop = self._stop.current
        if stop is None:
            self._sidecars.follow_config(self._pools.config, now_s)
        elif stop.phase is Phase.GONE:
            self._sidecars.stop(stop.requested_by, HURRY_S if stop.now else CLOSE_S, now_s)
        self._sidecars.judge(now_s)
        if stop is None:
            self._sidecars.start_what_is_due(now_s)
        self._sidecars.flush(self._pools.values())
