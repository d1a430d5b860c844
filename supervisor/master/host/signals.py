"""Signals to the master, with the mask and dispositions that it starts with; signals to its children. Master only.

A daemon inherits blocked and ignored signals from its starter. Neither may make it deaf to a stop, a reload
or a death, and a signal without a meaning here must not end it (signal(7): the default of most is to end a process).
Only the signals that a process earns by its own faults keep their default, for a core dump that tells the truth.

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
from supervisor.system.reactor import Reactor, StoredSignals

REQUESTS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""A stop, each of the first three; SIGHUP is a reload."""

_WAKES = frozenset({signal.SIGCHLD})

_LEFT_ALONE = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT})
"""The first two cannot be handled; a stopped master goes on with the third."""

_FAULTS = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)

IGNORED = frozenset({signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""A handler would not do for these: a write would be tried for ever (SIGTTOU), or the call fails as it should."""

WITHOUT_MEANING = frozenset(signal.valid_signals()) - REQUESTS - _WAKES - _LEFT_ALONE - _FAULTS - IGNORED
"""SIGUSR1, SIGUSR2, SIGALRM, the real-time signals, ...: they are taken, and nothing follows."""

TOUCHED = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
"""Signals that children must have at their default before exec: also those that the master has inherited."""

OVERDUE_S = 5.0
"""How long a killed child may take to end before that is a symptom."""


class Signals(StoredSignals):
    """Installed once, with an empty mask; `close` gives everything back as it was."""

    def __init__(self, reactor: Reactor) -> None:
        self._former_mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._former_ignored = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
        super().__init__(reactor, REQUESTS, _WAKES | WITHOUT_MEANING)

    def close(self) -> None:
        """Restore mask, handlers and wake-up descriptor."""
        super().close()
        for number, former in self._former_ignored.items():
            signal.signal(number, former)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)


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
