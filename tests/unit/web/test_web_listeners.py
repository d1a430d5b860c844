"""Readers of events: the newest state, every exit, and an end for who is too slow."""

from __future__ import annotations

import asyncio

from supervisor.web.status_cache import MAX_WAITING, EventReader


def test_a_state_that_was_not_taken_is_replaced_and_exits_are_not() -> None:
    async def scenario() -> bytes:
        listener = EventReader()
        for frame in (b"a", b"b"):
            listener.tell_exit(frame)
            listener.tell_state(frame.upper())
        return await listener.take()

    assert asyncio.run(scenario()) == b"abB"


def test_what_was_taken_does_not_come_again() -> None:
    async def scenario() -> bytes:
        listener = EventReader()
        listener.tell_exit(b"a")
        await listener.take()
        waiting = asyncio.create_task(listener.take())
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
        listener.tell_exit(b"b")
        return await waiting

    assert asyncio.run(scenario()) == b"b"


def test_who_is_too_slow_is_lost_and_holds_no_more_than_the_limit() -> None:
    async def scenario() -> tuple[bool, int]:
        listener = EventReader()
        for _ in range(MAX_WAITING * 2):
            listener.tell_exit(b"x")
        return listener.lost, len(await listener.take())

    assert asyncio.run(scenario()) == (True, MAX_WAITING)
