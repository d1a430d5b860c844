"""New code on trial: a forkserver that imports it beside the old one, and one worker of it that becomes ready.

Master only. Nothing of the old generation is touched before the canaries of all pools have passed; where one fails, the
new children are sent away again and nothing has changed. A pool that is new itself is tried in the same way, alone.
"""

from __future__ import annotations

from dataclasses import replace

from supervisor.config.schema import Config, PoolConfig
from supervisor.errors import BootError
from supervisor.link.frames import Reconfigure
from supervisor.master.pool.children import ChildSpec, Kind, Plan
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.stand_ins import free_slot
from supervisor.master.pool.starts import start_forkserver
from supervisor.master.reload.scaling import Rollout, Scaling, stays
from supervisor.master.stop.terminations import Terminations
from supervisor.system.reactor import Reactor


def trial_s(pool: PoolConfig) -> float:
    """How long the import and the `init` of the first worker may take together, in seconds."""
    return 2 * pool.boot_timeout_s


class Canary:
    """The trial of one pool. `proceed` in every turn until all have `passed`."""

    def __init__(self, pool: Pool, config: Config, reactor: Reactor, now_s: float) -> None:
        """`config`: the settings on trial. Raises StateError when no process can be started."""
        self.pool = pool
        self._config = config
        self._limit_s = trial_s(config.pools[pool.name])
        self._until_s = now_s + self._limit_s
        self._forkserver = pool.forkserver
        if not pool.plan.on_trial:
            self._forkserver = ChildSpec(pool.name, Kind.FORKSERVER)
            start_forkserver(pool, self._forkserver, config, reactor)
            pool.follow_plan(replace(pool.plan, candidate=self._forkserver))

    @property
    def due_s(self) -> float:
        """When it has failed if nothing happens (CLOCK_MONOTONIC)."""
        return float("inf") if self.passed else self._until_s

    def proceed(self, now_s: float) -> None:
        """Have a worker made once the code is imported. Raises BootError when the new code cannot be put to work,
        StateError (full disk)."""
        pool = self.pool
        if self._forkserver.ready and pool.plan.canary is None:
            slot = free_slot(pool.workers, pool.config.workers, pool.plan.spares)
            pool.follow_plan(replace(pool.plan, canary=slot))
            pool.make_room()
        for spec in filter(None, (self._forkserver, self._worker)):
            if spec.child is None and spec.deaths:
                raise BootError(spec.why or f"{spec.name} exited before it was ready; the log has more")
        if now_s >= self.due_s:
            waits_for = "its first worker is not ready" if self._forkserver.ready else "its handler is not imported"
            raise BootError(f"pool {pool.name}: {waits_for} after {self._limit_s:g} s; its import or `init` may hang")

    @property
    def passed(self) -> bool:
        """Whether the new code has proved that it works."""
        return self._forkserver.ready and (worker := self._worker) is not None and worker.ready

    def promote(self, reconnect: bool, scaling: Scaling, terminations: Terminations, now_s: float) -> None:
        """Put the new forkserver and the new settings in charge, and begin to replace the workers.

        `reconnect`: the consumer is replaced, too; else it is told its new settings.
        """
        pool, plan, config = self.pool, self.pool.plan, self._config
        if plan.on_trial:
            pool.follow_plan(Plan())
            return
        candidate, canary = plan.candidate, plan.canary
        assert candidate is not None and candidate.child is not None and canary is not None  # it has passed
        capacity = sum(spec.ready and stays(spec) for spec in pool.workers if spec.slot != canary)
        # fail-point: master.reload-committing: the new code has proved itself, the old one is in charge
        former = pool.go_over_to(candidate, config)
        pool.follow_plan(replace(plan, candidate=None, canary=None, spares=frozenset({canary})))
        scaling.replace_workers(pool, Rollout(candidate.child.generation, capacity))
        if former is not None:
            terminations.ask(former, "reload", now_s)
        if reconnect:
            scaling.replace_consumer(pool, now_s + config.daemon.stop_timeout_s)
        else:
            pool.consumer_channel.send(Reconfigure(pool.config, config.log))
        # fail-point: master.reload-committed: the new code is in charge, no child was replaced

    def abandon(self, terminations: Terminations, now_s: float) -> None:
        """Ask the new forkserver to leave. The canary worker leaves later, as a surplus one."""
        candidate = self.pool.plan.candidate
        self.pool.follow_plan(replace(self.pool.plan, candidate=None, canary=None))
        if candidate is not None and candidate.child is not None:
            terminations.ask(candidate.child, "failed reload", now_s)
        self.pool.close_unused_slots()

    @property
    def _worker(self) -> ChildSpec | None:
        slot = self.pool.plan.canary
        return self.pool.workers[slot] if slot is not None and slot < len(self.pool.workers) else None
