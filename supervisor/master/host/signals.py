"""Signals to the master, with the mask and dispositions that it starts with. Master only.

A daemon inherits blocked and ignored signals from its starter. Neither may make it deaf to a stop, a reload
or a death, and a signal without a meaning here must not end it (signal(7): the default of most is to end a process).
Only the signals that a process earns by its own faults keep their default, for a core dump that tells the truth.
"""

from __future__ import annotations

import signal

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
