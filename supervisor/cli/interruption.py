"""Commands end the processes that they have started, by whichever signal they are ended themselves.

Used by commands that run in the foreground. A signal that the caller ignores (`nohup`, a background job of a shell)
stays ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a person, a service manager or a closed terminal ends a command."""


@contextmanager
def interrupted_by(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Let these signals raise KeyboardInterrupt, as Ctrl-C does: what must be ended is ended on the way out."""
    with _handling(numbers, signal.default_int_handler):
        yield


@contextmanager
def unmoved_by(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Ignore these signals: for an end that takes a bounded time and must not be cut short (a second Ctrl-C)."""
    with _handling(numbers, signal.SIG_IGN):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in numbers}
    for number, before in former.items():
        if before is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)
