"""What a consumer keeps for a master that does not read: a bounded amount, and nothing that is asked for again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.consumer.reports import INTERVAL_S, MAX_PENDING_BYTES, Reports
from supervisor.link.channel import Channel
from supervisor.link.consumer_state import Trace
from supervisor.link.frames import ConsumerOrder, ConsumerReport, Drained, ExitNoticeTaken, Found, Incarnation, Snapshot
from tests.support.sessions import Bench

TAKEN = ExitNoticeTaken(Incarnation(0, 1))
TURNS = 6000


@pytest.fixture
def pair() -> Iterator[tuple[Channel[ConsumerOrder], Channel[Any]]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, ConsumerOrder), Channel(theirs, ConsumerReport)


def test_frames_to_a_master_that_does_not_read_are_bounded(
    tmp_path: Path, pair: tuple[Channel[ConsumerOrder], Channel[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.consumer.reports.INTERVAL_S", 0.0)
    channel, _master = pair
    reports, bench = Reports(channel), Bench(tmp_path)
    found = Found(1, [Trace(state="s" * 20_000, round=1, attempt=1)], "")
    for turn in range(TURNS):
        bench.session.observer.measures.counters["delivered"] = turn
        reports.say(TAKEN, found)
        reports.show(bench.session)
        reports.flush()
        assert channel.pending_bytes < 2 * MAX_PENDING_BYTES
    bench.close()


def test_what_is_said_only_once_waits_for_a_master_that_does_not_read(
    pair: tuple[Channel[ConsumerOrder], Channel[Any]],
) -> None:
    channel, master = pair
    reports = Reports(channel)
    for _ in range(30):
        reports.say(Found(1, [Trace(state="s" * 20_000, round=1, attempt=1)], ""))
        reports.flush()
    assert not reports.has_room
    reports.say(TAKEN, Drained(3, 2, []))
    heard: list[Any] = []
    while channel.pending_bytes:
        heard += master.receive()
        reports.flush()
    heard += master.receive()
    assert heard[-1] == Drained(3, 2, [])
    assert TAKEN not in heard
    assert reports.has_room


def test_the_latest_snapshot_follows_once_the_master_reads_again(
    tmp_path: Path, pair: tuple[Channel[ConsumerOrder], Channel[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.consumer.reports.INTERVAL_S", 0.0)
    channel, master = pair
    reports, bench = Reports(channel), Bench(tmp_path)
    for turn in range(TURNS):
        bench.session.observer.measures.counters["delivered"] = turn
        reports.show(bench.session)
        reports.flush()
    assert reports.due_in_s is not None
    heard: list[Any] = []
    while not heard or heard[-1].counters["delivered"] != TURNS - 1:
        heard += master.receive()
        reports.flush()
        reports.show(bench.session)
    assert all(isinstance(frame, Snapshot) for frame in heard)
    bench.close()


def test_a_consumer_whose_master_is_late_does_not_spin(
    tmp_path: Path, pair: tuple[Channel[ConsumerOrder], Channel[Any]]
) -> None:
    channel, _master = pair
    reports, bench = Reports(channel), Bench(tmp_path)
    reports.show(bench.session)
    reports.show(bench.session)
    assert 0 < (reports.due_in_s or 0.0) <= INTERVAL_S
    bench.close()
