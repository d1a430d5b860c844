"""A watch: its owner waits for what it wants, and for nothing without epoll spinning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from supervisor.system.reactor import Reactor, Watch


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with closing(Reactor()) as reactor:
        yield reactor


def test_a_watch_that_wants_nothing_is_not_called_not_even_for_a_hang_up(reactor: Reactor) -> None:
    read, write = os.pipe()
    heard: list[int] = []
    watch = Watch(reactor, read, lambda fd, events: heard.append(events), reactor.READ)
    os.close(write)
    reactor.poll(0)
    watch.want(0)
    watch.want(0)
    reactor.poll(0)
    assert len(heard) == 1

    watch.want(reactor.READ)
    reactor.poll(0)
    assert len(heard) == 2
    watch.want(0)
    os.close(read)


def test_a_watch_follows_what_its_owner_wants(reactor: Reactor) -> None:
    read, write = os.pipe()
    heard: list[int] = []
    watch = Watch(reactor, write, lambda fd, events: heard.append(events))
    reactor.poll(0)
    assert heard == []

    watch.want(reactor.WRITE)
    reactor.poll(0)
    assert heard == [reactor.WRITE]
    watch.want(0)
    os.close(read)
    os.close(write)
