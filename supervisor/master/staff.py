"""Brings each pool's workers to the number and the code that are wanted, step by step. Master only.

What the next step is, `rolling.py` decides; here it is carried out. A pool that has what it wants costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from supervisor.errors import StateError
from supervisor.master.leaving import Dismissals
from supervisor.master.pool import Pool
from supervisor.master.rolling import Step, next_step, surplus


def adjust(pools: Iterable[Pool], dismissals: Dismissals, now_s: float) -> None:
    """Take the next step in every pool that needs one."""
    for pool in pools:
        restless = pool.rolling or len(pool.workers) != pool.config.workers
        if restless and not pool.leaving and not pool.on_trial:
            _adjust(pool, dismissals, now_s)


def _adjust(pool: Pool, dismissals: Dismissals, now_s: float) -> None:
    step = _next_step(pool)
    pool.spares = step.spares
    for seat in step.leave:
        if seat.child is not None and seat.slot != pool.probe:
            dismissals.ask(pool, seat.child, "reload" if pool.rolling else "preforkd scale", now_s)
    try:
        pool.make_room()
    except StateError as error:  # a full disk: the next turn tries again, with what there is
        logging.getLogger(__name__).error("pool %s: %s", pool.name, error)
    pool.rolling = pool.rolling and not (step.over and len(pool.workers) == pool.config.workers)


def _next_step(pool: Pool) -> Step:
    wanted = pool.config.workers
    if not pool.rolling:
        return Step(frozenset(), surplus(pool.workers, wanted), True)
    return next_step(pool.workers, wanted, pool.outdated_below, pool.capacity)
