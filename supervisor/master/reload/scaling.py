"""Brings the children of each pool to the number and the code that are wanted, step by step. Master only.

A new worker is ready before an old one is asked to leave, so the pool never has fewer ready workers than it had when
the replacement began. The first new ones come into spare slots; each slot that becomes empty is filled at once; when
all wanted slots have new workers, those in the spare slots leave. So the names end as they were: `email/0` …
`next_step` decides (pure), `Scaling` carries out. A pool that has what it wants costs nothing. The replacement of a
pool's children goes on when the reload that began it has failed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from supervisor.link.frames import Drain
from supervisor.master.pool.children import Child, ChildSpec
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.stand_ins import make_room
from supervisor.master.stop.terminations import Terminations
from supervisor.scoreboard.words import Intent

_WORKERS_PER_SPARE = 8


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
        step = next_step(pool.workers, pool.config.workers, rollout)
        pool.follow_plan(replace(pool.plan, spares=step.spares))
        for spec in step.leave:
            if spec.child is not None and spec.slot not in self._to_stay(pool, spec.child):
                self._terminations.ask(spec.child, "reload" if rollout else "preforkd scale", now_s)
        make_room(pool)
        if step.over and len(pool.workers) == pool.config.workers:
            self._rollouts.pop(pool, None)

    def _to_stay(self, pool: Pool, child: Child) -> set[int | None]:
        """Slots whose worker is not asked to leave now: the canary, and a stand-in unless its code is outdated."""
        stand_ins = () if self._is_outdated(pool, child) else pool.delayed_notices.stand_ins
        return {pool.plan.canary, *stand_ins}

    def _is_outdated(self, pool: Pool, child: Child) -> bool:
        rollout = self._rollouts.get(pool)
        return rollout is not None and child.origin < rollout.outdated_below


# ---- decisions: which workers leave next, which spare slots help -----------------------------------------------------


@dataclass(frozen=True)
class Step:
    """The next step. `spares`: slots beyond the wanted ones to be filled; `leave`: specs whose worker is to leave;
    `over`: none is left to be replaced."""

    spares: frozenset[int]
    leave: list[ChildSpec]
    over: bool


def next_step(specs: Sequence[ChildSpec], wanted: int, rollout: Rollout | None) -> Step:
    """The next step towards the `wanted` number of workers, and, with a `rollout`, towards new ones."""
    if rollout is None:
        return Step(frozenset(), surplus(specs, wanted), True)
    outdated_below = rollout.outdated_below
    old = [spec for spec in specs if stays(spec) and not _is_new(spec, outdated_below)]
    new = [spec for spec in specs if stays(spec) and _is_new(spec, outdated_below)]
    ready_slots = {spec.slot for spec in new if spec.ready}
    if ready_slots.issuperset(range(wanted)):
        return Step(frozenset(), surplus(specs, wanted), True)
    spares = _spares(specs, wanted, outdated_below)
    unneeded = [spec for spec in surplus(new, wanted) if spec.slot not in spares]
    unready = [spec for spec in old if not spec.ready]
    willing = sorted((spec for spec in old if spec.ready), key=lambda spec: (_slot(spec) < wanted, _slot(spec)))
    may_leave = len(willing) + len(ready_slots) - min(rollout.capacity, wanted)
    return Step(spares, [*unneeded, *unready, *willing[: max(0, may_leave)]], False)


def surplus(specs: Sequence[ChildSpec], wanted: int) -> list[ChildSpec]:
    """The workers in slots beyond the first `wanted` ones that were not asked to leave yet."""
    return [spec for spec in specs if stays(spec) and _slot(spec) >= wanted]


def stays(spec: ChildSpec) -> bool:
    """Whether the slot has a child that was not asked to leave."""
    return spec.child is not None and spec.child.intent is Intent.NONE


def _spares(specs: Sequence[ChildSpec], wanted: int, outdated_below: int) -> frozenset[int]:
    count = max(1, wanted // _WORKERS_PER_SPARE)
    usable = [
        number
        for number in range(wanted, max(wanted, len(specs)) + count)
        if number >= len(specs) or specs[number].empty or _is_new(specs[number], outdated_below)
    ]
    return frozenset(usable[:count])


def _is_new(spec: ChildSpec, outdated_below: int) -> bool:
    if spec.child is None:
        return spec.ordered is not None and spec.origin >= outdated_below
    return spec.child.origin >= outdated_below


def _slot(spec: ChildSpec) -> int:
    assert spec.slot is not None  # a worker has one
    return spec.slot
