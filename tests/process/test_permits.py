"""Only a few of one daemon's consumers make queues at a time, and a stuck one does not keep the others from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.brokers.amqp import declarer
from supervisor.brokers.amqp.declarer import PERMITS, Permit
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


def asked(reactor: Reactor, folder: Path, count: int) -> tuple[list[Permit], list[int]]:
    """So many consumers that ask; and a list of those that have got a permit."""
    had: list[int] = []
    consumers = [Permit(reactor, folder) for _ in range(count)]
    for number, permit in enumerate(consumers):
        permit.ask(lambda number=number: had.append(number))  # type: ignore[misc]  # a lambda's default has no type
    return consumers, had


def turn_until(reactor: Reactor, had: list[int], count: int) -> None:
    until_s = monotonic_s() + 10.0
    while len(had) < count and monotonic_s() < until_s:
        reactor.poll(0.05)
    assert len(had) == count


def test_the_next_one_gets_its_turn_when_a_permit_is_given_back(reactor: Reactor, tmp_path: Path) -> None:
    consumers, had = asked(reactor, tmp_path, PERMITS + 2)
    reactor.poll(0.3)
    assert had == list(range(PERMITS))

    consumers[0].release()
    turn_until(reactor, had, PERMITS + 1)
    consumers[1].release()
    turn_until(reactor, had, PERMITS + 2)


def test_one_that_no_longer_wants_it_is_not_called(reactor: Reactor, tmp_path: Path) -> None:
    consumers, had = asked(reactor, tmp_path, PERMITS + 1)
    consumers[-1].release()
    consumers[0].release()
    reactor.poll(0.3)

    assert had == list(range(PERMITS))


def test_holders_that_stand_still_are_not_waited_for_without_end(
    reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declarer, "LONGEST_WAIT_S", 0.2)
    _consumers, had = asked(reactor, tmp_path, PERMITS + 1)

    turn_until(reactor, had, PERMITS + 1)


def test_a_state_directory_that_cannot_be_used_keeps_no_consumer_from_its_queues(
    reactor: Reactor, tmp_path: Path
) -> None:
    _consumers, had = asked(reactor, tmp_path / "gone", 3)

    assert had == [0, 1, 2]


def test_asked_for_again_a_permit_that_is_had_stays(reactor: Reactor, tmp_path: Path) -> None:
    (first, *_others), had = asked(reactor, tmp_path, PERMITS)
    first.ask(lambda: had.append(99))

    assert had[-1] == 99
