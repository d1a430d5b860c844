"""Whether a pool's consumer takes messages: not while an operator has paused it, nor while no worker can run them.

Master only. The consumer of a pool whose workers are all held would keep what it has read ahead, and no other daemon
could run that: it gives everything back once, and takes messages again when a worker is ready.
"""

from __future__ import annotations

from supervisor.link.frames import Pause, Resume
from supervisor.master.control.status import can_work
from supervisor.master.pool.pool import Pool


def wanted(pool: Pool) -> bool:
    """Whether messages are to be taken."""
    return pool.paused is None and not pool.idled


def follow(pool: Pool, now_s: float) -> None:
    """Tell the consumer what has changed. A consumer that drains is told nothing: it takes no more messages."""
    if any(spec.ready for spec in pool.workers):
        pool.idled = False
    elif not can_work(pool) and all(spec.child is None for spec in pool.workers):
        pool.idled = True
    if pool.leaving or pool.plan.consumer_leaves or wanted(pool) == pool.takes:
        return
    pool.takes = wanted(pool)
    pool.consumer_channel.send(Resume() if pool.takes else Pause())
