"""Effects that raise: what concerns one message fails that message's run, and everything else is carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from supervisor.brokers.base import Broker
from supervisor.consumer.observe.measures import Publishes
from supervisor.consumer.turn.commit_pipeline import Effects
from supervisor.consumer.workers.links import WorkerLinks
from supervisor.ledger.base import RowState
from supervisor.link.frames import Published
from supervisor.logs.events import Event
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import W0, Bench


class Raises:
    """A broker and links in one: notes what it is asked, and raises where the test says so."""

    def __init__(self, broken: Callable[[str, Any], bool]) -> None:
        self.done: list[str] = []
        self.greeted = [W0]
        self._broken = broken

    def _do(self, name: str, what: Any) -> None:
        if self._broken(name, what):
            raise ValueError("as ordered")
        self.done.append(name)

    def ack(self, epoch: int, tag: int) -> None:
        self._do("ack", tag)

    def publish(self, outgoing: Any) -> None:
        self._do("publish", outgoing)

    def send(self, worker: Any, frame: Any) -> None:
        self._do("send", frame)


def carried_out(bench: Bench, broken: Callable[[str, Any], bool]) -> list[str]:
    """Carry out the bench's turn; what was done without an error."""
    other = Raises(broken)
    links, broker = cast(WorkerLinks, other), cast(Broker, other)
    effects = Effects(bench.settlement, broker, links, Publishes(), lambda delay_s, callback: None)
    effects.carry_out(bench.turn().effects)
    return other.done


def test_a_message_that_cannot_be_sent_to_a_worker_is_dead_lettered_and_the_next_one_runs() -> None:
    bench = Bench()
    for id in ("bad", "good"):
        bench.deliver(id)
        bench.assign()
    assert carried_out(bench, lambda name, frame: name == "send" and frame.run.key.startswith(b"bad")) == ["send"]
    bench.turn()
    assert bench.state("bad") is RowState.DEAD_PENDING
    assert bench.state("good") is RowState.DISPATCHED
    (failed,) = [saying for saying in bench.last.said if saying.event is Event.MESSAGE_FAILED]
    assert failed.fields["cause"] == "unreadable"
    assert "ValueError: as ordered" in failed.fields["reason"]


def test_a_publication_that_raises_fails_its_own_run_and_what_follows_is_done() -> None:
    bench = Bench()
    _, bad = bench.begun("bad")
    _, good = bench.begun("good")
    bench.settlement.publications.publish_for(W0, bad, [Publication("", "k" * 300, Properties(), b"")])
    bench.ends(good)
    assert carried_out(bench, lambda name, what: name == "publish") == ["ack"]
    bench.turn()
    (told,) = bench.sent()
    assert told == Published(bad, False, "it cannot be published: ValueError: as ordered")


def test_a_copy_that_raises_is_held_and_tried_again() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run, OutcomeKind.FAILED)
    assert carried_out(bench, lambda name, what: name == "publish") == []
    bench.turn()
    assert bench.said() == [Event.COPY_REFUSED]
    assert len(bench.later()) == 1


def test_an_effect_that_concerns_no_single_message_raises() -> None:
    bench = Bench()
    _, run = bench.begun()
    bench.ends(run)
    with pytest.raises(ValueError, match="as ordered"):
        carried_out(bench, lambda name, what: name == "ack")
