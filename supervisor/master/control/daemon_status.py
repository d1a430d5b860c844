"""The daemon as a whole: its state, the status object (docs/control-protocol.md), its news for systemd. Master only."""

from __future__ import annotations

import os

import supervisor
from supervisor.control.results import Status
from supervisor.master.control import status
from supervisor.master.control.systemd import PoolFacts, StatusNotifier
from supervisor.master.exits.history import History
from supervisor.master.pool.pools import Pools
from supervisor.master.reload.reload import Reloads
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.startup import Startup
from supervisor.master.stop.stopping import DaemonStop
from supervisor.system.clock import monotonic_s, rfc3339
from supervisor.system.posix import usage


class DaemonStatus:
    """Read from the books of all duties, changing nothing."""

    def __init__(
        self,
        pools: Pools,
        sidecars: Sidecars,
        history: History,
        startup: Startup,
        reloads: Reloads,
        stop: DaemonStop,
    ) -> None:
        self._pools = pools
        self._sidecars = sidecars
        self._history = history
        self._startup = startup
        self._reloads = reloads
        self._stop = stop

    @property
    def state(self) -> str:
        """The one word for the daemon."""
        if self._stop.under_way:
            return "stopping"
        if not self._startup.ready:
            return "starting"
        return "reloading" if self._reloads.under_way else "running"

    def show(self) -> Status:
        """The status object."""
        now_s, config = monotonic_s(), self._pools.config
        return Status(
            version=supervisor.__version__,
            pid=os.getpid(),
            state=self.state,
            started_at=rfc3339(self._startup.began_at_s),
            uptime_s=round(now_s - self._startup.began_s, 3),
            **usage(os.getpid())._asdict(),
            config=config.source,
            state_dir=config.daemon.state_dir,
            runtime_dir=config.daemon.runtime_dir,
            reload=self._reloads.status(),
            pools={
                name: status.pool_status(pool, status.pool_state(pool, self._stop.under_way), now_s)
                for name, pool in self._pools.items()
            },
            sidecars=self._sidecars.status(),
            exits=self._history.counts(),
        )

    def pool_facts(self) -> list[PoolFacts]:
        """What systemd is told of the pools."""
        exits, stopping = self._history.counts(), self._stop.under_way
        return [status.pool_facts(pool, status.pool_state(pool, stopping), exits) for pool in self._pools.values()]


class SystemdDuty:
    """Tells systemd how the daemon is, as often as `notifier` wants."""

    does = "tell systemd"

    def __init__(self, notifier: StatusNotifier, daemon: DaemonStatus, stop: DaemonStop) -> None:
        self._notifier = notifier
        self._daemon = daemon
        self._stop = stop

    @property
    def due_s(self) -> float:
        """When the next notification is due (CLOCK_MONOTONIC)."""
        return self._notifier.due_s

    def turn(self, now_s: float) -> None:
        """Notify, if that is due or the daemon's state has changed."""
        if self._notifier.is_due(state := self._daemon.state, now_s):
            self._notifier.tell(state, self._daemon.pool_facts(), self._stop.current, now_s)
