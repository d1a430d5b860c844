"""Waiting in tests: on a named condition, with a generous deadline, never for a fixed time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from supervisor.system.clock import monotonic_s

T = TypeVar("T")

_POLL_S = 0.02


def eventually(predicate: Callable[[], T], what: str, timeout_s: float = 20.0) -> T:
    """The first true value of `predicate()`; an AssertionError that names `what` after `timeout_s` seconds."""
    never = threading.Event()
    deadline_s = monotonic_s() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if monotonic_s() >= deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last seen: {value!r})")
        never.wait(_POLL_S)
