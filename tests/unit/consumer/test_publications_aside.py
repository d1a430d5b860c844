"""Which deliveries are set aside for refused copies: all that wait for one, up to a bound."""

from __future__ import annotations

import pytest

from supervisor.consumer.settlement import publications
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settling import Bench


def refused(bench: Bench, id: str, body: bytes = b"") -> int:
    """A message whose run has failed, and whose copy the broker does not take; its tag."""
    tag, run = bench.begun(id, body=body)
    bench.ends(run, OutcomeKind.FAILED)
    bench.turn()
    bench.settlement.unpublished(bench.published()[-1].token, "full", lost=False)
    return tag


def test_what_waits_for_a_refused_copy_is_set_aside_with_all_its_deliveries() -> None:
    bench = Bench()
    first = refused(bench, "m")
    again, later = bench.deliver("m"), bench.deliver("m", (2, 1))
    bench.begun("other")
    assert bench.settlement.publications.set_aside() == [(1, first), (1, again), (1, later)]


def test_no_more_messages_than_the_bound_are_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publications, "SET_ASIDE_MOST", 20)
    bench = Bench()
    for number in range(30):
        refused(bench, f"m{number}")
    assert len(bench.settlement.publications.set_aside()) == 20
    assert len(bench.settlement.publications.refused) == 30


def test_no_more_bytes_than_the_bound_are_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publications, "SET_ASIDE_BYTES", 1000)
    bench = Bench()
    tags = [refused(bench, f"m{number}", b"x" * 300) for number in range(5)]
    assert bench.settlement.publications.set_aside() == [(1, tag) for tag in tags[:3]]


def test_a_copy_that_is_placed_is_set_aside_no_more() -> None:
    bench = Bench()
    refused(bench, "m")
    token = bench.entry().token
    assert token is not None
    bench.confirmed(token)
    assert bench.settlement.publications.set_aside() == []
    assert len(bench.settlement.publications.refused) == 0


def test_after_a_reconnect_the_deliveries_that_came_back_are_set_aside() -> None:
    bench = Bench()
    refused(bench, "m")
    before = bench.settlement.publications.refused.changes
    bench.lose_connection()
    assert bench.settlement.publications.set_aside() == []
    tag = bench.deliver(redelivered=True)
    assert bench.settlement.publications.set_aside() == [(2, tag)]
    assert bench.settlement.publications.refused.changes > before
