"""Lets only a few consumers of one daemon make queues at a time: a broker is slow for all while it makes many.

Runs in consumers. Sixty pools that declared all their queues at once kept RabbitMQ 3.10 busy for minutes, and blocked
each other. A permit is a lock on a file of the state directory, so it ends with its holder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from supervisor.system.clock import monotonic_s
from supervisor.system.locks import FileLock, LockHeld
from supervisor.system.reactor import Reactor, Timer

AT_ONCE = 2
_AGAIN_S = 0.1
LONGEST_WAIT_S = 60.0
"""A holder that hangs must not block the others."""


class Permit:
    """Requested before queues are made, released when they exist."""

    def __init__(self, reactor: Reactor, state_dir: Path) -> None:
        self._reactor = reactor
        self._paths = [state_dir / f"declaring.{number}.lock" for number in range(AT_ONCE)]
        self._lock: FileLock | None = None
        self._timer: Timer | None = None

    def ask(self, then: Callable[[], object]) -> None:
        """Call `then()` once a permit is free, or after `LONGEST_WAIT_S`."""
        self._try(then, monotonic_s() + LONGEST_WAIT_S)

    def release(self) -> None:
        """Release the permit, or cancel the request."""
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
            self._timer = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _try(self, then: Callable[[], object], until_s: float) -> None:
        self._timer = None
        if self._had() or monotonic_s() >= until_s:
            then()
        else:
            self._timer = self._reactor.call_later(_AGAIN_S, lambda: self._try(then, until_s))

    def _had(self) -> bool:
        """Whether a permit is taken, or the state directory cannot be used, which other code reports."""
        for path in self._paths:
            if self._lock is not None:
                break
            try:
                self._lock = FileLock(path)
            except LockHeld:
                continue
            except OSError:
                return True
        return self._lock is not None
