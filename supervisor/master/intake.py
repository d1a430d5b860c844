"""Whether a pool's consumer takes messages: not while an operator has paused it, nor while nobody can run them.

Master only. A pool whose workers are all given up would sit on what it has read ahead, and nobody else could run that:
its consumer gives everything back once, and takes messages again when a worker is ready.
"""

from __future__ import annotations

from supervisor.link.frames import Pause, Resume
from supervisor.master.children import Kind
from supervisor.master.pool import Pool
from supervisor.master.status import can_work


def wanted(pool: Pool) -> bool:
    """Whether messages are to be taken."""
    return pool.paused is None and not pool.idled


def follow(pool: Pool) -> None:
    """See who is there, and tell the consumer what has changed. Not for one that drains: it is to take nothing more."""
    if any(seat.ready for seat in pool.workers):
        pool.idled = False
    elif not can_work(pool) and all(seat.child is None for seat in pool.workers):
        pool.idled = True
    if pool.leaving or pool.handover_due_s is not None or wanted(pool) == pool.takes:
        return
    pool.takes = wanted(pool)
    pool.send(Kind.CONSUMER, Resume() if pool.takes else Pause())
