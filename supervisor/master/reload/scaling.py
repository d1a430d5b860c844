"""Brings each pool's workers to the number and the code that are wanted, step by step. Master only.

What the next step is, `rolling.py` decides; here it is carried out. A pool that has what it wants costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from supervisor.errors import StateError
from supervisor.link.frames import ExitNotice
from supervisor.master.pool.children import Child
from supervisor.master.pool.pool import Pool
from supervisor.master.reload.rolling import Step, free_slot, next_step, surplus
from supervisor.master.stop.terminations import Terminations


class Scaling:
    """A duty: takes the next step in each pool that needs one."""

    does = "scale pools"
    due_s = float("inf")

    def __init__(self, pools: Collection[Pool], terminations: Terminations) -> None:
        self._pools = pools
        self._terminations = terminations

    def turn(self, now_s: float) -> None:
        """Take the next steps."""
        for pool in self._pools:
            restless = pool.rolling or len(pool.workers) != pool.config.workers
            if restless and not pool.leaving and not pool.on_trial:
                _adjust(pool, self._terminations, now_s)


def _adjust(pool: Pool, terminations: Terminations, now_s: float) -> None:
    step = _next_step(pool)
    pool.spares = step.spares
    for spec in step.leave:
        if spec.child is not None and spec.slot not in _to_stay(pool, spec.child):
            terminations.ask(pool, spec.child, "reload" if pool.rolling else "preforkd scale", now_s)
    _make_room(pool)
    pool.rolling = pool.rolling and not (step.over and len(pool.workers) == pool.config.workers)


def keep(pool: Pool, slot: int, exit_notice: ExitNotice) -> None:
    """Let a verdict wait, and have another worker in the place of the dead one: at most as many as there are wanted."""
    taken = frozenset({*pool.beyond, *pool.kept, *pool.foreign})
    room = len(pool.kept.stand_ins) < pool.config.workers
    pool.kept.keep(slot, exit_notice, free_slot(pool.workers, pool.config.workers, taken) if room else None)
    _make_room(pool)


def _make_room(pool: Pool) -> None:
    try:
        pool.make_room()
    except StateError as error:  # a full disk: the next turn tries again, with what there is
        logging.getLogger(__name__).error("pool %s: %s", pool.name, error)


def _to_stay(pool: Pool, child: Child) -> set[int | None]:
    """Slots whose worker is not asked to leave now; one of older code that stands in for another is."""
    outdated = pool.rolling and child.origin < pool.outdated_below
    return {pool.probe} if outdated else {pool.probe, *pool.kept.stand_ins}


def _next_step(pool: Pool) -> Step:
    wanted = pool.config.workers
    if not pool.rolling:
        return Step(frozenset(), surplus(pool.workers, wanted), True)
    return next_step(pool.workers, wanted, pool.outdated_below, pool.capacity)
