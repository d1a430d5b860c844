"""Signals from the master to its children. Master only.

A handler may execute a set-user-ID program: the child is then a process that an unprivileged master may not signal. And
a killed process that waits inside the kernel (state D: a network file system, a broken disk) ends when that wait does.
Neither raises here, and nothing waits for them. The child carries the reason, which becomes a symptom of its pool.
"""

from __future__ import annotations

import logging
import signal

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.children import Child
from supervisor.system import posix

OVERDUE_S = 5.0
"""How long a killed child may take to end before that is a symptom."""


def send(child: Child, signum: int, now_s: float) -> bool:
    """Send the signal `signum` to a child; whether it was sent. `now_s`: CLOCK_MONOTONIC."""
    delivery = posix.signal_process(child.pid, child.ticks, signum)
    if delivery is posix.Delivery.REFUSED and not child.unkillable:
        child.cannot_be_signalled(
            f"{child.name} (pid {child.pid}) cannot be signalled: it has become a program of another user"
        )
        if not child.pool:  # no symptom reports it: a sidecar has no pool
            log(Event.CHILD_UNKILLABLE, child.unkillable, level=logging.ERROR, pid=child.pid)
    if delivery is posix.Delivery.SENT and signum == signal.SIGKILL:
        child.killed(now_s)
    return delivery is posix.Delivery.SENT


def cannot_be_ended(child: Child, now_s: float) -> str:
    """Why this child cannot be ended, for people; "" while it may."""
    if child.unkillable or child.killed_s is None or now_s < child.killed_s + OVERDUE_S:
        return child.unkillable
    return f"{child.name} (pid {child.pid}) was killed and does not end: it waits inside the kernel (state D)"
