"""Brings the children of each pool to the number and the code that are wanted, step by step. Master only.

`rolling.py` decides the next step, which is carried out here. A pool that has what it wants costs nothing. The
replacement of a pool's children goes on when the reload that began it has failed meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from supervisor.errors import StateError
from supervisor.link.frames import Drain, ExitNotice
from supervisor.master.pool.children import Child, ChildSpec
from supervisor.master.pool.pool import Pool
from supervisor.master.reload.rolling import Step, free_slot, next_step, surplus
from supervisor.master.stop.terminations import Terminations


@dataclass(frozen=True)
class Rollout:
    """The replacement of workers whose forkserver is older than the generation `outdated_below`. `capacity`: how many
    workers were ready when it began; it leaves no fewer."""

    outdated_below: int
    capacity: int


@dataclass(frozen=True)
class Handover:
    """The replacement of a consumer, which drains first. `due_s`: when it is told to leave at the latest."""

    consumer: Child
    due_s: float


class Scaling:
    """A duty: takes the next step in each pool that needs one."""

    does = "replace and scale workers"

    def __init__(self, pools: Collection[Pool], terminations: Terminations) -> None:
        self._pools = pools
        self._terminations = terminations
        self._rollouts: dict[Pool, Rollout] = {}
        self._handovers: dict[Pool, Handover] = {}

    @property
    def due_s(self) -> float:
        """When the drain of a consumer has taken its time (CLOCK_MONOTONIC)."""
        return min((handover.due_s for handover in self._handovers.values()), default=float("inf"))

    def replace_workers(self, pool: Pool, rollout: Rollout) -> None:
        """Begin to replace the workers of this pool; another replacement under way gives way to this one."""
        self._rollouts[pool] = rollout

    def replace_consumer(self, pool: Pool, until_s: float) -> None:
        """Let the consumer finish what runs, until `until_s` at the latest (CLOCK_MONOTONIC), and replace it."""
        pool.consumer_channel.send(Drain())
        if pool.consumer.child is not None:
            self._handovers[pool] = Handover(pool.consumer.child, until_s)
            pool.follow_plan(replace(pool.plan, consumer_leaves=True))

    def replaces_workers(self, pool: Pool) -> bool:
        """Whether workers of this pool are still replaced."""
        return pool in self._rollouts

    def replaces(self, pool: Pool) -> bool:
        """Whether children of this pool are still replaced."""
        return pool in self._rollouts or pool in self._handovers

    def outdated(self, pool: Pool) -> list[ChildSpec]:
        """The workers that are still to be replaced."""
        return [spec for spec in pool.workers if spec.child is not None and self._is_outdated(pool, spec.child)]

    def turn(self, now_s: float) -> None:
        """Take the next steps."""
        self._rollouts = {pool: rollout for pool, rollout in self._rollouts.items() if not pool.leaving}
        self._handovers = {pool: handover for pool, handover in self._handovers.items() if not pool.leaving}
        for pool, handover in list(self._handovers.items()):
            self._hand_over(pool, handover, now_s)
        for pool in self._pools:
            restless = pool in self._rollouts or len(pool.workers) != pool.config.workers
            if restless and not pool.leaving and not pool.plan.on_trial:
                self._adjust(pool, now_s)

    def _hand_over(self, pool: Pool, handover: Handover, now_s: float) -> None:
        """Ask the consumer to leave if it has drained, or its drain has taken too long. It may have ended already."""
        present = pool.consumer.child is handover.consumer
        if present and pool.consumer_channel.drained is None and now_s < handover.due_s:
            return
        del self._handovers[pool]
        pool.follow_plan(replace(pool.plan, consumer_leaves=False))
        if present:
            self._terminations.ask(handover.consumer, "reload", now_s)

    def _adjust(self, pool: Pool, now_s: float) -> None:
        rollout = self._rollouts.get(pool)
        step = _next_step(pool, rollout)
        pool.follow_plan(replace(pool.plan, spares=step.spares))
        for spec in step.leave:
            if spec.child is not None and spec.slot not in self._to_stay(pool, spec.child):
                self._terminations.ask(spec.child, "reload" if rollout else "preforkd scale", now_s)
        _make_room(pool)
        if step.over and len(pool.workers) == pool.config.workers:
            self._rollouts.pop(pool, None)

    def _to_stay(self, pool: Pool, child: Child) -> set[int | None]:
        """Slots whose worker is not asked to leave now: the canary, and a stand-in unless its code is outdated."""
        stand_ins = () if self._is_outdated(pool, child) else pool.kept.stand_ins
        return {pool.plan.canary, *stand_ins}

    def _is_outdated(self, pool: Pool, child: Child) -> bool:
        rollout = self._rollouts.get(pool)
        return rollout is not None and child.origin < rollout.outdated_below


def keep(pool: Pool, slot: int, exit_notice: ExitNotice) -> None:
    """Delay an exit notice, and fill another slot instead: at most as many slots as there are workers wanted."""
    taken = frozenset({*pool.beyond, *pool.kept, *pool.foreign})
    room = len(pool.kept.stand_ins) < pool.config.workers
    pool.kept.keep(slot, exit_notice, free_slot(pool.workers, pool.config.workers, taken) if room else None)
    _make_room(pool)


def _make_room(pool: Pool) -> None:
    try:
        pool.make_room()
    except StateError as error:  # a full disk: the next turn tries again, with what there is
        logging.getLogger(__name__).error("pool %s: %s", pool.name, error)


def _next_step(pool: Pool, rollout: Rollout | None) -> Step:
    wanted = pool.config.workers
    if rollout is None:
        return Step(frozenset(), surplus(pool.workers, wanted), True)
    return next_step(pool.workers, wanted, rollout.outdated_below, rollout.capacity)
