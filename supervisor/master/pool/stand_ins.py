"""Slots beyond the wanted ones: for a worker on trial, or in the place of one whose exit notice waits. Master only.

The slot of a worker with an orphan that cannot be ended stays as it is (`DelayedNotices`): its message must not run
again beside the orphan. Another slot does its work meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from supervisor.errors import StateError
from supervisor.link.frames import ExitNotice
from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.pool import Pool


def delay_notice(pool: Pool, slot: int, exit_notice: ExitNotice) -> None:
    """Delay an exit notice, and fill another slot instead: at most as many slots as there are workers wanted."""
    taken = frozenset({*pool.beyond, *pool.delayed_notices, *pool.surviving})
    room = len(pool.delayed_notices.stand_ins) < pool.config.workers
    pool.delayed_notices.delay(slot, exit_notice, free_slot(pool.workers, pool.config.workers, taken) if room else None)
    make_room(pool)


def make_room(pool: Pool) -> None:
    """Make room for all slots that the pool needs now. A failure is logged, and tried again by the next call."""
    try:
        pool.make_room()
    except StateError as error:  # a full disk: the next turn tries again, with what there is
        logging.getLogger(__name__).error("pool %s: %s", pool.name, error)


def free_slot(specs: Sequence[ChildSpec], wanted: int, taken: frozenset[int]) -> int:
    """The first empty slot beyond the first `wanted` ones. `taken`: slots that are not free though they are empty."""
    free = (number for number in range(wanted, len(specs)) if specs[number].empty and number not in taken)
    return next(free, max(wanted, len(specs)))
