"""What a handler raises or returns -> how its run ended; what ends the process passes through."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor import Message, Reject, Retry, SoftTimeout
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind
from supervisor.worker.handler_call import DONE, Ending, collected, run_handler


class Untellable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OwnRetry(Retry):
    pass


class UninitedRetry(Retry):
    def __init__(self, reason: str) -> None:
        self.text = reason


class NumberLike(float):
    pass


class Loud(BaseException):
    """No wish to exit: a library's cancellation, as GreenletExit is."""


class ExitingText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Unreadable(Exception):
    """Nothing of it can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise LookupError(name)


class StrangeText(str):
    def encode(self, *given: Any, **named: Any) -> bytes:
        raise RuntimeError("no bytes")


class TextOfAnotherKind(Exception):
    def __str__(self) -> str:
        return StrangeText("strange")


def retry_with(delay_s: object) -> Retry:
    """A Retry whose delay was set behind its back."""
    error = Retry()
    error.delay_s = delay_s  # type: ignore[assignment]
    return error


def deep_group() -> BaseExceptionGroup[Any]:
    group = ExceptionGroup("innermost", [ValueError("deep")])
    for _ in range(3000):
        group = ExceptionGroup("outer", [group])
    return group


def long_chain() -> Exception:
    error = Exception("last")
    first = error
    for number in range(5000):
        error.__context__ = ValueError(f"{number} of many")
        error = error.__context__
    error.__context__ = first  # and round it goes
    return first


RAISED = {
    "an exception": (ValueError("no user"), OutcomeKind.FAILED, None, "ValueError: no user"),
    "one without a text": (KeyError(), OutcomeKind.FAILED, None, "KeyError"),
    "one whose text fails": (
        Untellable(),
        OutcomeKind.FAILED,
        None,
        f"{__name__}.Untellable: (its text cannot be had: RuntimeError)",
    ),
    "Retry": (Retry(), OutcomeKind.RETRY, None, "Retry"),
    "Retry with a delay": (Retry(2.5, "busy"), OutcomeKind.RETRY, 2.5, "busy"),
    "Retry at once": (Retry(0), OutcomeKind.RETRY, 0, "Retry"),
    "a kind of Retry": (OwnRetry(1), OutcomeKind.RETRY, 1, "OwnRetry"),
    "Reject": (Reject("no address"), OutcomeKind.REJECT, None, "no address"),
    "SoftTimeout": (SoftTimeout("25 s"), OutcomeKind.SOFT_TIMEOUT, None, "25 s"),
    "a cancellation": (asyncio.CancelledError(), OutcomeKind.FAILED, None, "asyncio.exceptions.CancelledError"),
    "GeneratorExit": (GeneratorExit(), OutcomeKind.FAILED, None, "GeneratorExit"),
    "a library's BaseException": (Loud("killed"), OutcomeKind.FAILED, None, f"{__name__}.Loud: killed"),
    "a group of BaseExceptions": (
        BaseExceptionGroup("two", [asyncio.CancelledError(), ValueError()]),
        OutcomeKind.FAILED,
        None,
        "BaseExceptionGroup: two (2 sub-exceptions)",
    ),
    "a group that holds an exit": (
        BaseExceptionGroup("one", [SystemExit(3)]),
        OutcomeKind.FAILED,
        None,
        "BaseExceptionGroup: one (1 sub-exception)",
    ),
    "a deep group": (deep_group(), OutcomeKind.FAILED, None, "ExceptionGroup: outer (1 sub-exception)"),
    "an endless chain": (long_chain(), OutcomeKind.FAILED, None, "Exception: last"),
    "one whose text exits": (
        ExitingText(),
        OutcomeKind.FAILED,
        None,
        f"{__name__}.ExitingText: (its text cannot be had: SystemExit)",
    ),
    "one whose text is a str of its own": (
        TextOfAnotherKind(),
        OutcomeKind.FAILED,
        None,
        f"{__name__}.TextOfAnotherKind: strange",
    ),
    "a text of half a character": (ValueError("\udc80"), OutcomeKind.FAILED, None, "ValueError: \\udc80"),
    "Retry with a Decimal": (Retry(Decimal("1.5")), OutcomeKind.RETRY, 1.5, "Retry"),
    "Retry with a Fraction": (Retry(Fraction(1, 4)), OutcomeKind.RETRY, 0.25, "Retry"),
    "Retry with a float of a library": (Retry(NumberLike(5)), OutcomeKind.RETRY, 5.0, "Retry"),
    "Retry with an enum": (Retry(HTTPStatus.OK), OutcomeKind.RETRY, 200.0, "Retry"),
    "a Retry that was not initialised": (UninitedRetry("x"), OutcomeKind.RETRY, None, "x"),
    "a Retry whose delay was set to a text": (
        retry_with("5"),
        OutcomeKind.FAILED,
        None,
        "TypeError: Retry: the delay is a number of seconds, not of type str",
    ),
    "a Retry whose delay was set to no number": (
        retry_with(math.nan),
        OutcomeKind.FAILED,
        None,
        "ValueError: Retry(nan): the delay is in seconds, 0 or more",
    ),
    "a Retry whose delay was set beyond all numbers": (
        retry_with(10**400),
        OutcomeKind.FAILED,
        None,
        "ValueError: Retry: the delay is a number of seconds, and this one is too large for any",
    ),
}


def raising(error: BaseException) -> Ending:
    def handler(message: Message) -> None:
        raise error

    return run_handler(handler, Message(b""))


@pytest.mark.parametrize("case", RAISED)
def test_what_is_raised_gives_the_outcome(case: str) -> None:
    error, kind, delay_s, reason = RAISED[case]
    ending = raising(error)
    assert (ending.kind, ending.delay_s, ending.reason) == (kind, delay_s, reason)
    assert "in handler" in ending.stack
    assert "in run_handler" not in ending.stack


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_a_process_is_no_outcome(error: BaseException) -> None:
    with pytest.raises(type(error)):
        raising(error)


@pytest.mark.parametrize("returned", [None, False, "failed", 1])
def test_whatever_is_returned_means_done(returned: object) -> None:
    assert run_handler(lambda message: returned, Message(b"")) is DONE


def test_a_coroutine_that_is_not_awaited_is_a_failure() -> None:
    async def send() -> None:
        raise AssertionError("must not run")

    ending = run_handler(lambda message: send(), Message(b""))
    assert ending.kind == OutcomeKind.FAILED
    assert ending.reason == "the handler returned a coroutine that is never awaited; call asyncio.run in it"


def test_an_exception_of_which_nothing_can_be_read_is_a_failure() -> None:
    ending = raising(Unreadable())
    assert (ending.kind, ending.reason) == (OutcomeKind.FAILED, "an exception that cannot be inspected: LookupError")


def test_a_delay_is_a_plain_float_whatever_it_was() -> None:
    assert type(raising(Retry(NumberLike(5))).delay_s) is float


@pytest.mark.parametrize("delay_s", ["5", b"5", timedelta(seconds=5), [5], object(), 5j, 10**400, -1, math.inf])
def test_a_retry_with_a_delay_that_is_none_is_a_failed_run_and_says_so(delay_s: Any) -> None:
    def handler(message: Message) -> None:
        raise Retry(delay_s)

    ending = run_handler(handler, Message(b""))
    assert ending.kind == OutcomeKind.FAILED
    assert "the delay is" in ending.reason
    assert "in handler" in ending.stack


# ---- what is returned ---------------------------------------------------------------------------------------------


def _generate() -> Iterator[int]:
    yield 1


async def _generate_later() -> Any:
    yield 1


def _read_to_its_end() -> Iterator[int]:
    generator = _generate()
    list(generator)
    return generator


class _Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


class _Proxy:
    """As a web framework's request that is not bound: even its class cannot be asked for."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("unbound")


def _future(result: object = None, error: BaseException | None = None) -> concurrent.futures.Future[object]:
    future: concurrent.futures.Future[object] = concurrent.futures.Future()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
    return future


UNDONE: dict[str, tuple[Callable[[], object], str]] = {
    "a generator": (_generate, "the handler returned a generator that is never read"),
    "an asynchronous generator": (_generate_later, "the handler returned a async_generator that is never read"),
    "map": (lambda: map(print, [1]), "the handler returned a map that is never read"),
    "filter": (lambda: filter(print, [1]), "the handler returned a filter that is never read"),
    "an awaitable": (_Awaitable, "the handler returned a _Awaitable that is never awaited"),
    "a pending future": (concurrent.futures.Future, "the handler returned a Future that is still pending"),
    "a future that failed": (lambda: _future(error=ValueError("no user")), "ValueError: no user"),
    "a proxy that cannot be looked at": (_Proxy, "RuntimeError: unbound"),
}


@pytest.mark.parametrize("case", UNDONE)
def test_work_that_is_returned_undone_is_a_failure(case: str) -> None:
    make, reason = UNDONE[case]
    ending = run_handler(lambda message: make(), Message(b""))
    assert ending.kind == OutcomeKind.FAILED
    assert ending.reason.startswith(reason)
    assert "supervisor/worker" not in ending.stack


def test_a_future_that_failed_with_a_retry_is_that_retry() -> None:
    ending = run_handler(lambda message: _future(error=Retry(5)), Message(b""))
    assert (ending.kind, ending.delay_s) == (OutcomeKind.RETRY, 5.0)


@pytest.mark.parametrize("make", [_read_to_its_end, _future, lambda: SimpleNamespace(done=True), lambda: iter([])])
def test_work_that_was_done_may_be_returned(make: Callable[[], object]) -> None:
    assert run_handler(lambda message: make(), Message(b"")) is DONE


# ---- what was published -------------------------------------------------------------------------------------------


def test_what_publish_has_collected_is_taken() -> None:
    message = Message(b"")
    message.publish(b"x", routing_key="audit")
    assert collected(message) == (DONE, message.publications)


class _Refusing:
    def __bool__(self) -> bool:
        raise RuntimeError("neither")


SPOILT: list[object] = [
    None,
    5,
    "audit",
    [b"x"],
    {"routing_key": "audit"},
    _Refusing(),
    [Publication("", "audit", Properties(headers={"a": object()}), b"")],
    [Publication("", 5, Properties(), b"")],  # type: ignore[arg-type]
    [Publication("", "audit", Properties(), "text")],  # type: ignore[arg-type]
    [Publication("", "audit", None, b"")],  # type: ignore[arg-type]
]


@pytest.mark.parametrize("publications", SPOILT)
def test_publications_set_to_what_cannot_be_sent_are_a_failed_run(publications: Any) -> None:
    message = Message(b"")
    message.publications = publications
    ending, taken = collected(message)
    assert (ending.kind, taken) == (OutcomeKind.FAILED, [])
    assert ending.reason


def test_publications_that_were_deleted_are_a_failed_run() -> None:
    message = Message(b"")
    del message.publications
    assert collected(message)[0].kind == OutcomeKind.FAILED
