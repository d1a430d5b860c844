"""When a silent holder is fenced, and when others decide about its messages: by the clock of the one who looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.fleet.calls import Peer
from supervisor.ledger.fleet_peers import CLOCK_RATES, REST_S, Peers

LEASE_S, RUN_S, BEAT_S = 90.0, 309.0, 10.0
LIVE = Peer(epoch=7, turn=3, state="l", host="b", lease_s=LEASE_S, max_run_s=RUN_S, open_rows=2)
SILENT_S = CLOCK_RATES * LEASE_S + REST_S
OVER_S = CLOCK_RATES * RUN_S - LEASE_S / 2 + REST_S


def watched(until_s: float, peer: Peer = LIVE, host_wait_s: float = 0.0) -> Peers:
    """A holder that looks at each beat, from 0 on, and always sees the same."""
    peers = Peers(BEAT_S, host_wait_s)
    for beat in range(int(until_s // BEAT_S) + 1):
        peers.look([peer], beat * BEAT_S)
    return peers


def test_a_holder_is_silent_after_its_lease_and_a_rest_and_not_before() -> None:
    peers = watched(SILENT_S)
    assert peers.silent(SILENT_S - 0.1) is None
    assert peers.silent(SILENT_S) == LIVE


def test_a_call_begins_the_wait_again() -> None:
    peers = watched(60.0)
    called = LIVE._replace(turn=4)
    peers.look([called], 70.0)
    for beat in range(8, 17):
        peers.look([called], beat * BEAT_S)
    assert peers.silent(70.0 + SILENT_S - 0.1) is None
    assert peers.silent(70.0 + SILENT_S) == called


def test_a_gap_between_looks_gives_every_holder_a_full_lease() -> None:
    """The store was away: no holder could call."""
    peers = watched(60.0)
    peers.look([LIVE], 60.0 + LEASE_S)
    assert peers.silent(60.0 + LEASE_S) is None
    for beat in range(16, 26):
        peers.look([LIVE], beat * BEAT_S)
    assert peers.silent(60.0 + LEASE_S + SILENT_S) == LIVE


def test_no_holder_is_fenced_by_what_was_seen_before_an_outage_of_the_store() -> None:
    peers = watched(20.0)
    assert peers.silent(200.0) is None
    peers.look([LIVE], 200.0)
    assert peers.silent(200.0) is None


def test_a_holder_that_is_gone_is_forgotten_and_begins_again_when_it_is_back() -> None:
    peers = watched(90.0)
    peers.look([], 92.0)
    assert peers.silent(200.0) is None
    peers.look([LIVE], 94.0)
    assert peers.silent(SILENT_S) is None


def test_the_messages_of_a_fenced_holder_are_decided_once_its_last_run_has_ended() -> None:
    peers = watched(SILENT_S)
    peers.fenced(LIVE, 100.0)
    assert peers.silent(1000.0) is None
    assert peers.over(100.0 + OVER_S - 0.1) is None
    assert peers.over(100.0 + OVER_S) == LIVE._replace(state="f")


def test_a_holder_that_another_one_has_fenced_is_waited_for_as_long() -> None:
    fenced = LIVE._replace(state="f")
    peers = Peers(BEAT_S, 0.0)
    peers.look([LIVE], 0.0)
    peers.look([fenced], 10.0)
    assert peers.over(10.0 + OVER_S - 0.1) is None
    assert peers.over(10.0 + OVER_S) == fenced


def test_no_gap_shortens_or_lengthens_the_wait_for_a_fenced_holder() -> None:
    """Its runs end whether the store is there or not."""
    fenced = LIVE._replace(state="f")
    peers = Peers(BEAT_S, 0.0)
    peers.look([fenced], 0.0)
    peers.look([fenced], OVER_S)
    assert peers.over(OVER_S) == fenced


def test_a_host_that_may_come_back_is_given_its_time() -> None:
    peers = Peers(BEAT_S, 600.0)
    peers.fenced(LIVE, 0.0)
    assert peers.over(OVER_S + 599.9) is None
    assert peers.over(OVER_S + 600.0) == LIVE._replace(state="f")


def test_short_runs_leave_the_rest_alone_to_wait_for() -> None:
    peers = Peers(BEAT_S, 0.0)
    peers.fenced(LIVE._replace(max_run_s=10.0), 0.0)
    assert peers.over(REST_S - 0.1) is None
    assert peers.over(REST_S) is not None


def test_what_was_forgotten_is_not_named_before_the_next_look() -> None:
    peers = watched(SILENT_S)
    peers.forget(LIVE)
    assert peers.silent(SILENT_S) is None


@pytest.mark.parametrize("lease_s", [30.0, 90.0, 3600.0])
def test_holders_with_other_leases_than_our_own_are_fenced_after_theirs(lease_s: float) -> None:
    peer = LIVE._replace(lease_s=lease_s)
    peers = Peers(beat_s=400.0, host_wait_s=0.0)
    for beat in range(12):
        peers.look([peer], beat * 400.0)
    assert peers.silent(CLOCK_RATES * lease_s + REST_S - 0.1) is None
    assert peers.silent(CLOCK_RATES * lease_s + REST_S) == peer


@given(
    calls=st.lists(st.floats(0.1, 400.0), max_size=12),
    looks=st.lists(st.floats(0.1, 60.0), min_size=1, max_size=60),
    rate=st.floats(0.991, 1.009),
)
def test_i3_no_holder_is_fenced_within_its_lease_and_nothing_is_decided_while_a_run_goes_on(
    calls: list[float], looks: list[float], rate: float
) -> None:
    """The holder's clock has another rate. It makes calls, and then none; each look may end in a fence at once."""
    called_at = [0.0]
    for wait_s in calls:
        called_at.append(called_at[-1] + wait_s)
    peers, now_s = Peers(BEAT_S, 0.0), 0.0
    fenced_s = None
    for wait_s in looks:
        now_s += wait_s
        turn = sum(at_s <= now_s for at_s in called_at)
        last_s = max(at_s for at_s in called_at if at_s <= now_s)
        if fenced_s is None:
            peers.look([LIVE._replace(turn=turn)], now_s)
            if (peer := peers.silent(now_s)) is not None and peer.turn == turn:
                assert (now_s - last_s) * rate >= LEASE_S, "it may still begin and keep messages"
                peers.fenced(peer, now_s)
                fenced_s = now_s
        elif peers.over(now_s) is not None:
            last_begin_s = last_s + LEASE_S / 2 / rate
            assert (now_s - last_begin_s) * rate >= RUN_S, "a run may still go on"
