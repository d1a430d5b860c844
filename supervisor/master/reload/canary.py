"""New code on trial: a forkserver that imports it beside the old one, and one worker of it that becomes ready.

Master only. Nothing of the old generation is touched before every pool's trial has succeeded; where one fails, the new
ones are sent away again and nothing has changed. A pool that is new itself is tried in the same way, alone.
"""

from __future__ import annotations

from supervisor.config.schema import Config, PoolConfig
from supervisor.errors import BootError
from supervisor.master.pool.children import ChildSpec, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.starts import start_candidate
from supervisor.master.reload.rolling import free_slot
from supervisor.master.stop.terminations import Terminations
from supervisor.system.reactor import Reactor


def trial_s(pool: PoolConfig) -> float:
    """How long the import and the `init` of the first worker may take together, in seconds."""
    return 2 * pool.boot_timeout_s


class Canary:
    """The trial of one pool. `proceed` in every turn until it is `passed` or there is a `failure`."""

    def __init__(self, pool: Pool, config: Config, reactor: Reactor, now_s: float) -> None:
        """Raises StateError when no process can be started."""
        self.pool = pool
        self._patience_s = trial_s(config.pools[pool.name])
        self.until_s = now_s + self._patience_s
        self._forkserver = pool.forkserver
        if not pool.on_trial:
            self._forkserver = ChildSpec(pool.name, Kind.FORKSERVER)
            start_candidate(pool, self._forkserver, config, reactor)
            pool.candidate = self._forkserver

    def proceed(self) -> None:
        """Have a worker made once the code is imported. Raises StateError (full disk)."""
        pool = self.pool
        if self._forkserver.ready and pool.probe is None:
            pool.probe = free_slot(pool.workers, pool.config.workers, pool.spares)
            pool.make_room()

    @property
    def passed(self) -> bool:
        """Whether the new code has proved that it works."""
        return self._forkserver.ready and (probe := self._probe) is not None and probe.ready

    def failure(self, now_s: float) -> BootError | None:
        """Why the new code cannot be put to work; None while it may still."""
        for spec in filter(None, (self._forkserver, self._probe)):
            if spec.child is None and spec.deaths:
                return BootError(spec.why or f"{spec.name} left before it was ready; the log has more")
        if now_s < self.until_s:
            return None
        waits_for = "its first worker is not ready" if self._forkserver.ready else "its handler is not imported"
        return BootError(
            f"pool {self.pool.name}: {waits_for} after {self._patience_s:g} s; does its import or `init` hang?"
        )

    def abandon(self, terminations: Terminations, now_s: float) -> None:
        """Send the new ones away; the worker leaves as one too many."""
        candidate, self.pool.candidate, self.pool.probe = self.pool.candidate, None, None
        if candidate is not None and candidate.child is not None:
            terminations.ask(self.pool, candidate.child, "failed reload", now_s)

    @property
    def _probe(self) -> ChildSpec | None:
        slot = self.pool.probe
        return self.pool.workers[slot] if slot is not None and slot < len(self.pool.workers) else None
