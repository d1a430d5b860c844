"""Calls the handler and says how that ended: one table from what it raised to the outcome of the run.

Runs in workers. Only `Exception`s are outcomes: SystemExit and its like are the handler's wish to end the process, and
pass through unsettled, so that the master judges the run from the slot.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from supervisor.api import Message, Reject, Retry, SoftTimeout
from supervisor.scoreboard.words import OutcomeKind
from supervisor.stacks import reason_of, stack_of, text_of

Handler = Callable[[Message], object]


class Ending(NamedTuple):
    """How a run ended. `delay_s`: what Retry asked for; `reason` and `stack` are "" for a run that is done."""

    kind: OutcomeKind
    delay_s: float | None = None
    reason: str = ""
    stack: str = ""


DONE = Ending(OutcomeKind.DONE)

_KINDS: tuple[tuple[type[Exception], OutcomeKind], ...] = (
    (Retry, OutcomeKind.RETRY),
    (Reject, OutcomeKind.REJECT),
    (SoftTimeout, OutcomeKind.SOFT_TIMEOUT),
    (Exception, OutcomeKind.FAILED),
)
"""The first class that fits gives the kind."""

_OURS = (Retry, Reject, SoftTimeout)


def run_handler(handler: Handler, message: Message) -> Ending:
    """Call the handler with the message. What is no Exception (SystemExit, KeyboardInterrupt) passes through."""
    try:
        returned = call(handler, message)
    except Exception as error:  # noqa: BLE001  (whatever a handler raises is the outcome of its run)
        return _ending_of(error)
    if returned is not None and inspect.isawaitable(returned):
        return _not_awaited(returned)
    return DONE


def call(handler: Handler, message: Message) -> object:
    """The frame that divides the worker from the handler: below it a soft limit may strike."""
    return handler(message)


def _ending_of(error: Exception) -> Ending:
    kind = next(kind for raised, kind in _KINDS if isinstance(error, raised))
    delay_s = error.delay_s if isinstance(error, Retry) else None
    ours = isinstance(error, _OURS)  # the kind says it all: their text is the reason
    reason = (text_of(error) or type(error).__name__) if ours else reason_of(error)
    return Ending(kind, delay_s, reason, stack_of(error, _handlers_frame(error)))


def _handlers_frame(error: Exception) -> TracebackType | None:
    trace = error.__traceback__
    for _ in range(2):  # run_handler and call
        trace = trace.tb_next if trace else None
    return trace


def _not_awaited(returned: object) -> Ending:
    if inspect.iscoroutine(returned):
        returned.close()
    kind = type(returned).__name__
    return Ending(OutcomeKind.FAILED, None, f"the handler returned a {kind} that nobody awaits; call asyncio.run in it")
