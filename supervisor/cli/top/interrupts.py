"""The signals that reach a live view: stored, and acted upon by its loop.

A process that is ended by a signal gives the terminal back first and then dies of that very signal, as its parent
expects; one that is suspended gives it back, too, and takes it again when it goes on.
"""

from __future__ import annotations

import signal

from supervisor.system.reactor import Reactor
from supervisor.system.stored_signals import StoredSignals

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORED = (*ENDS, signal.SIGTSTP, signal.SIGWINCH)


class Interrupts(StoredSignals):
    """Installed from the moment it is made until `close()`."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, _STORED)

    def suspend(self) -> None:
        """Stop this process until it is sent SIGCONT."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._store)


def die_of(number: int) -> None:
    """End this process by the signal it was sent."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(signal.Signals(number))
