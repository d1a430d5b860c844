"""A class that cannot be a middleware is refused at the start with its fault, since a run would notice nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import pytest

from supervisor.middleware_methods import fault_of, has_async


def before(self: object, message: object) -> None: ...


def one(**members: Any) -> type:
    """A class with these members, and a `before` that is as it should be."""
    return type("Middleware", (), {"before": before, **members})


def _generator(self: object, message: object) -> Iterator[None]:
    yield


async def _async_generator(self: object, message: object) -> AsyncIterator[None]:
    yield


async def _coroutine(self: object, message: object) -> None: ...


GOOD: dict[str, type] = {
    "all four": one(after=before, failed=lambda self, message, error: None, around=lambda self, message: nullcontext()),
    "async": one(after=_coroutine, around=asynccontextmanager(_async_generator)),
    "a decorated generator": one(around=contextmanager(_generator)),
    "a static and a class method": one(
        after=staticmethod(lambda message: None), failed=classmethod(lambda cls, message, error: None)
    ),
    "more arguments with a default": one(after=lambda self, message, more=1: None),
    "any arguments": one(after=lambda *arguments: None),
    "helpers of its own": one(connect=before, after_commit=before, _befor=before),
    "C code, which tells no signature": one(after=staticmethod(max)),
    "an attribute that only sounds like a method": one(afters=0),
}

BAD: dict[str, tuple[type, str]] = {
    "nothing": (type("Empty", (), {"connect": before}), "has none of the methods before, after, failed, around"),
    "befor": (one(befor=before), "has a method 'befor', which is never called: did you mean 'before'?"),
    "on_failed": (one(on_failed=before), "has a method 'on_failed', which is never called: did you mean 'failed'?"),
    "Around": (one(Around=before), "has a method 'Around', which is never called: did you mean 'around'?"),
    "no method": (one(after=7), "after is not a method but of type int"),
    "too few": (one(failed=before), "failed cannot be called with (message, error): it takes (self: 'object'"),
    "too many": (one(after=lambda self, message, more: None), "after cannot be called with (message): it takes (self,"),
    "no self": (one(after=staticmethod(lambda: None)), "after cannot be called with (message): it takes ()"),
    "a generator": (one(after=_generator), "after is a generator function: calling it runs nothing"),
    "an async generator": (one(failed=_async_generator), "failed is a generator function: calling it runs nothing"),
    "a bare around": (one(around=_generator), "around is a generator function: put @contextlib.contextmanager above"),
    "a bare async around": (
        one(around=_async_generator),
        "around is a generator function: put @contextlib.asynccontextmanager above",
    ),
    "an async def around": (one(around=_coroutine), "around returns no context manager"),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("as_object", [False, True])
def test_what_can_be_called_is_a_middleware(kind: str, as_object: bool) -> None:
    assert fault_of(GOOD[kind]() if as_object else GOOD[kind]) == ""


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("as_object", [False, True])
def test_what_would_run_nothing_is_named(kind: str, as_object: bool) -> None:
    owner, fault = BAD[kind]
    expected = fault.split(" it takes")[0] if as_object else fault
    assert fault_of(owner() if as_object else owner).startswith(expected)


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (before, False),
        (_coroutine, True),
        (contextmanager(_generator), False),
        (asynccontextmanager(_async_generator), True),
    ],
)
def test_async_methods_are_recognised(member: Callable[..., Any], expected: bool) -> None:
    assert has_async(one(around=member)) is expected
