"""The signals the master takes. Master only."""

from __future__ import annotations

import signal

from supervisor.reactor import Reactor
from supervisor.stored_signals import StoredSignals

REQUESTS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_WAKES = (signal.SIGCHLD,)
TOUCHED = frozenset((*REQUESTS, *_WAKES, signal.SIGPIPE))
"""What children must have reset to its default before they are executed."""


class Signals(StoredSignals):
    """Installed once; `close` gives everything back as it was."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__(reactor, REQUESTS, _WAKES)
