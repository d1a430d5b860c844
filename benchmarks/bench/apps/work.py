"""What handlers do, the same for all contestants. Standard library only: preforkd's workers import it and, in their own
environment, the peers'.
"""

from __future__ import annotations

import time

_TURNS = 60_000


def nothing() -> None:
    """Only what a message costs by itself."""


def sleep_1ms() -> None:
    """A handler that waits for something quick."""
    time.sleep(0.001)


def sleep_10ms() -> None:
    """A handler that waits for a database."""
    time.sleep(0.010)


def spin() -> None:
    """A handler that computes: about 1 ms of pure Python."""
    for _ in range(_TURNS):
        pass


WORK = {each.__name__: each for each in (nothing, sleep_1ms, sleep_10ms, spin)}
