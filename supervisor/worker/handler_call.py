"""Calls the handler and returns the ending of the run: one table from the exception raised to the outcome.

Runs in workers. Only SystemExit and KeyboardInterrupt end the process: they pass through, and the master judges the run
from the slot. Any other exception ends the run and not the worker, also one that user code raises while an exception's
text or a returned proxy is read. A coroutine, a generator or a pending future that a handler returns is undone work;
counting it as done would lose it silently. This file must not import asyncio, concurrent.futures or opentelemetry: most
handlers need none of them.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from sys import getprofile, getrecursionlimit, gettrace, setprofile, setrecursionlimit, settrace
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any, NamedTuple

from supervisor import api
from supervisor.api import Message, Reject, Retry, SoftTimeout, retry_delay_s, sendable_publications
from supervisor.messages.message import Publication
from supervisor.scoreboard.words import OutcomeKind
from supervisor.system.stacks import reason_of, stack_of, text_of

Handler = Callable[[Message], object]


class Ending(NamedTuple):
    """How a run ended. `delay_s`: of a Retry; `reason` and `stack` are "" for a run that is done."""

    kind: OutcomeKind
    delay_s: float | None = None
    reason: str = ""
    stack: str = ""


DONE = Ending(OutcomeKind.DONE)

_KINDS: tuple[tuple[type[BaseException], OutcomeKind], ...] = (
    (Retry, OutcomeKind.RETRY),
    (Reject, OutcomeKind.REJECT),
    (SoftTimeout, OutcomeKind.SOFT_TIMEOUT),
    (BaseException, OutcomeKind.FAILED),
)
"""The first matching class gives the kind."""


class UndoneWorkError(Exception):
    """A handler or middleware has returned work that was not done. Its text is the reason of the run."""


class BlamedError(Exception):
    """A method of a middleware has raised the cause of this exception. Its text is the name of the method."""


_OURS = (Retry, Reject, SoftTimeout, UndoneWorkError)
_OWN_MODULES = "supervisor.worker."

EXITS = (SystemExit, KeyboardInterrupt)
"""Exceptions that end the process, and not only the run."""

_TRACING = "supervisor.worker.tracing"

_UNREAD = "that is never read, so that it ran nothing; use a loop in the handler"
_UNAWAITED = "that is never awaited; call asyncio.run in it"
_LAZY: dict[type, tuple[str, str]] = {
    CoroutineType: ("cr_frame", _UNAWAITED),
    GeneratorType: ("gi_frame", _UNREAD),
    AsyncGeneratorType: ("ag_frame", _UNREAD),
}
"""Types that a call only creates and does not run: the attribute of their frame (None at their end), the fault."""


def import_tracing() -> None:
    """Import tracing in the forkserver, so that its workers share the pages; nothing without opentelemetry-api."""
    if find_spec("opentelemetry") is None:
        return
    try:
        importlib.import_module(_TRACING)
    except Exception as error:  # noqa: BLE001  (a library that fails, or one that user code has patched)
        text = (
            "opentelemetry cannot be used, messages are not traced: %r; install preforkd's extra `otel`, or remove it"
        )
        logging.getLogger("preforkd.tracing").warning(text, error)


def runner(worker: str) -> Callable[[Handler, Message], Ending]:
    """The function with which a worker calls handlers, chosen after its `init`. `worker`: `email/0`.

    With the API of OpenTelemetry alone, context is passed from a message to the publications of its handler; spans are
    made once user code has configured an SDK.
    """
    tracing: Any = sys.modules.get(_TRACING)
    if tracing is None:
        return run_handler
    api._context.inject = tracing.inject
    return tracing.Tracing(worker).run if tracing.is_configured() else run_handler


def run_handler(handler: Handler, message: Message) -> Ending:
    """Call the handler with the message. Raises SystemExit and KeyboardInterrupt of the handler."""
    try:
        returned = _called(handler, message)
        return DONE if returned is None else _ending_of_value(returned)
    except EXITS:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a handler raises is the outcome of its run)
        return _ending_of(error)


def _called(handler: Handler, message: Message) -> object:
    """Call it, and restore settings that would run user code in preforkd's next calls, or make those fail."""
    traced, profiled, depth = gettrace(), getprofile(), getrecursionlimit()
    try:
        return call(handler, message)
    finally:
        if gettrace() is not traced:
            settrace(traced)
        if getprofile() is not profiled:
            setprofile(profiled)
        if getrecursionlimit() != depth:
            setrecursionlimit(depth)


def call(handler: Handler, message: Message) -> object:
    """The frame between worker and handler: only below it the soft limit may raise."""
    return handler(message)


def collected(message: Message) -> tuple[Ending, list[Publication]]:
    """The publications of a handler that has returned; a failed run if it has replaced them with another object, or
    has not ended its use of an inbox."""
    try:
        if message.inbox is not None and (fault := message.inbox.fault()):
            return Ending(OutcomeKind.FAILED, None, fault), []
        publications = message.publications
        if type(publications) is list and not publications:
            return DONE, publications
        return DONE, sendable_publications(publications)
    except BaseException as error:  # noqa: BLE001  (an object of user code may raise anything)
        return Ending(OutcomeKind.FAILED, None, reason_of(error)), []


def _ending_of(error: BaseException) -> Ending:
    try:
        if type(error) is BlamedError and error.__cause__ is not None:
            ending = _classified(error.__cause__)
            return ending._replace(reason=f"middleware {error}: {ending.reason}")
        return _classified(error)
    except BaseException as failure:  # noqa: BLE001  (an exception class of user code: its attributes may raise)
        return Ending(OutcomeKind.FAILED, None, f"an exception that cannot be inspected: {type(failure).__name__}")


def _classified(error: BaseException) -> Ending:
    kind = next(kind for raised, kind in _KINDS if isinstance(error, raised))
    frame = handlers_frame(error)
    stack = stack_of(error, frame) if frame else stack_of(error.with_traceback(None))
    if isinstance(error, UndoneWorkError):
        stack = ""  # of preforkd's own frames
    delay_s: float | None = None
    if isinstance(error, Retry):
        try:
            delay_s = _delay_of(error)
        except (TypeError, ValueError) as wrong:
            return Ending(OutcomeKind.FAILED, None, reason_of(wrong), stack)
    ours = isinstance(error, _OURS)  # their text alone is the reason
    reason = (text_of(error) or type(error).__name__) if ours else reason_of(error)
    return Ending(kind, delay_s, reason, stack)


def _delay_of(error: Retry) -> float | None:
    """The delay of a Retry. A derived class may not have called its constructor, or may set the attribute."""
    asked = getattr(error, "delay_s", None)
    return None if asked is None else retry_delay_s(asked)


def error_type(ending: Ending) -> str:
    """The class of the exception in the reason of a failed run, without the name of a middleware."""
    parts = ending.reason.split(": ", 2)
    return parts[1] if parts[0].startswith("middleware ") and len(parts) > 1 else parts[0]


def handlers_frame(error: BaseException) -> TracebackType | None:
    """The first frame of user code in the stack of its exception; None if there is none."""
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_OWN_MODULES):
        trace = trace.tb_next
    return trace


def _ending_of_value(returned: object) -> Ending:
    why = undone_work(returned)
    return Ending(OutcomeKind.FAILED, None, f"the handler {why}") if why else DONE


def undone_work(returned: object) -> str:
    """Why the value `returned` by a handler or `init` is undone work, as a text that follows its name; "" if it is not.

    Raises the exception of a failed future, and any exception of a proxy of user code.
    """
    fault = _fault_of(returned)
    return f"returned a {type(returned).__name__} {fault}" if fault else ""


def _fault_of(returned: Any) -> str:
    for kind, (frame, fault) in _LAZY.items():
        if isinstance(returned, kind):
            return fault if _left_unfinished(returned, frame) else ""
    if callable(getattr(returned, "add_done_callback", None)) and callable(getattr(returned, "done", None)):
        return _fault_of_future(returned)
    if isinstance(returned, map | filter):
        return _UNREAD
    return _UNAWAITED if inspect.isawaitable(returned) else ""


def _left_unfinished(returned: Any, frame: str) -> bool:
    if getattr(returned, frame) is None:
        return False
    if not isinstance(returned, AsyncGeneratorType):
        with suppress(Exception):  # an exception in its `finally` adds nothing
            returned.close()
    return True


def _fault_of_future(returned: Any) -> str:
    if not returned.done():
        return "that is still pending; wait for it"
    error = returned.exception()
    if isinstance(error, BaseException):
        raise error
    return ""
