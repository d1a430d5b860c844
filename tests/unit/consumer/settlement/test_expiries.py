"""When a message's time is over: what its header and timestamp say, and a wall clock that may be wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from supervisor.brokers.base import Delivery
from supervisor.consumer.settlement.expiries import BELIEVED_AFTER_S, Expiries, moment_s
from supervisor.consumer.settlement.messages import Arrival, Entry, Expiry
from supervisor.consumer.settlement.unit_of_work import UnitOfWork
from supervisor.logs.events import Event
from supervisor.messages.message import Properties

NOW_S = 1_800_000_000
"""The wall clock when 1000 s have passed."""
DAY_S = 86400.0


def arrival(expires: Any = None, timestamp: int | None = None, id: str = "m") -> Arrival:
    """A delivery of a first run."""
    delivery = Delivery(1, 1, "", "q", False, Properties(timestamp=timestamp), b"")
    return Arrival(delivery, b"k", id, True, 1, 1, False, expires=expires)


class Bench:
    """The expiries, 1000 s after the boot."""

    def __init__(self, wall_s: float = NOW_S) -> None:
        self.decisions = UnitOfWork(0)
        self.expiries = Expiries(self.decisions)
        self.look(1000.0, wall_s)

    def look(self, passed_s: float, wall_s: float) -> None:
        """So much has passed, and the wall clock says this."""
        self.expiries.look(passed_s, wall_s)

    def left_s(self, found: Arrival, max_wait_s: float = 0.0) -> float | None:
        """How long a message has that arrives now."""
        expiry = self.expiry(found, max_wait_s)
        return None if expiry is None else round(expiry.due_s - self.expiries._passed_s, 3)

    def expiry(self, found: Arrival, max_wait_s: float = 0.0) -> Expiry | None:
        """What is noted of it."""
        return self.expiries.of(Entry.of(found), found, max_wait_s)

    def reason(self, found: Arrival, max_wait_s: float = 0.0, after_s: float = 0.0) -> str:
        """Why it is not run, if its turn comes so much later."""
        expiry = self.expiry(found, max_wait_s)
        assert expiry is not None
        self.look(1000.0 + after_s, NOW_S + after_s)
        return self.expiries.reason(expiry)


# ---- the header -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        NOW_S,
        float(NOW_S),
        str(NOW_S),
        f" {NOW_S} ",
        datetime.fromtimestamp(NOW_S, UTC),
        datetime.fromtimestamp(NOW_S, UTC).replace(tzinfo=None),
        datetime.fromtimestamp(NOW_S, timezone(timedelta(hours=5))),
        datetime.fromtimestamp(NOW_S, UTC).isoformat(),
        datetime.fromtimestamp(NOW_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        datetime.fromtimestamp(NOW_S, UTC).replace(tzinfo=None).isoformat(" "),
        datetime.fromtimestamp(NOW_S, timezone(timedelta(hours=-3))).isoformat(),
    ],
)
def test_the_header_is_read_as_a_number_a_timestamp_or_iso_8601(value: Any) -> None:
    assert moment_s(value) == NOW_S


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, "", "soon", "10m", b"1800000000", [NOW_S], {"at": NOW_S}, float("nan"), float("inf"), 10**400),
        *(60, 0, -1, "60", "20270115", NOW_S * 1000, str(NOW_S * 1000), "9" * 30, "१८००००००००"),
        *(datetime(1999, 1, 1), "0001-01-01", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_a_duration_milliseconds_and_nonsense_are_no_time(value: Any) -> None:
    assert moment_s(value) is None


def test_an_unreadable_header_is_told_once_and_the_message_does_not_expire() -> None:
    bench = Bench()
    assert bench.left_s(arrival(60)) is None
    assert bench.left_s(arrival("soon")) is None
    (said,) = bench.decisions.take().said
    assert (said.event, said.warning) == (Event.MESSAGE_EXPIRY_UNREADABLE, True)
    assert "'m' has x-preforkd-expires '60', which is no time" in said.text


def test_with_an_unreadable_header_max_wait_counts() -> None:
    assert Bench().left_s(arrival("soon"), max_wait_s=600.0) == 600.0


def test_of_header_and_max_wait_the_earlier_counts() -> None:
    bench = Bench()
    assert bench.left_s(arrival(NOW_S + 30), max_wait_s=600.0) == 30.0
    assert bench.left_s(arrival(NOW_S + 3000), max_wait_s=600.0) == 600.0


# ---- the timestamp --------------------------------------------------------------------------------------------------


def test_a_timestamp_has_whole_seconds_so_its_message_has_one_more() -> None:
    assert Bench().left_s(arrival(timestamp=NOW_S - 100), max_wait_s=600.0) == 501.0


@pytest.mark.parametrize("timestamp", [NOW_S + 5000, NOW_S * 1000, NOW_S])
def test_a_timestamp_of_the_future_counts_as_now(timestamp: int) -> None:
    assert Bench().left_s(arrival(timestamp=timestamp), max_wait_s=600.0) == 600.0


@pytest.mark.parametrize("timestamp", [None, 0, 1000])
def test_without_a_plausible_timestamp_the_wait_begins_when_the_message_is_read(timestamp: int | None) -> None:
    assert Bench().left_s(arrival(timestamp=timestamp), max_wait_s=600.0) == 600.0


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [(1, 2), (2, 1), (2, 2)])
def test_only_the_first_run_expires(run: tuple[int, int]) -> None:
    found = arrival(NOW_S - 5)
    assert Bench().expiries.of(Entry(found.key, found.id, *run), found, 600.0) is None


def test_a_message_that_may_have_begun_does_not_expire() -> None:
    found = arrival(NOW_S - 5)
    entry = Entry.of(found)
    entry.maybe_duplicate = True
    assert Bench().expiries.of(entry, found, 600.0) is None


@pytest.mark.parametrize(("second", "left_s"), [(NOW_S + 20, 20.0), (NOW_S + 5, 10.0), (None, None)])
def test_of_two_deliveries_the_later_time_counts(second: int | None, left_s: float | None) -> None:
    bench, first = Bench(), arrival(NOW_S + 10)
    entry = Entry.of(first)
    entry.expiry, entry.delivery = bench.expiries.of(entry, first, 0.0), first.delivery
    found = bench.expiries.of(entry, arrival(second), 0.0)
    assert (None if found is None else found.due_s - 1000.0) == left_s


def test_a_second_delivery_that_expires_leaves_the_first_without_an_end() -> None:
    bench, first = Bench(), arrival()
    entry = Entry.of(first)
    entry.delivery = first.delivery
    assert bench.expiries.of(entry, arrival(NOW_S + 10), 0.0) is None


# ---- clocks ---------------------------------------------------------------------------------------------------------


def test_a_message_in_hand_is_timed_by_elapsed_time() -> None:
    bench = Bench()
    expiry = bench.expiry(arrival(NOW_S + 10))
    assert expiry is not None
    bench.look(1009.0, NOW_S + 10 * DAY_S)
    assert not bench.expiries.is_over(expiry)
    bench.look(1010.0, NOW_S - 10 * DAY_S)
    assert bench.expiries.is_over(expiry)


def test_a_clock_that_is_ahead_for_a_moment_expires_nothing() -> None:
    bench = Bench()
    for passed_s in (1001.0, 1002.0, 1000.0 + BELIEVED_AFTER_S):
        bench.look(passed_s, NOW_S + 10 * DAY_S)
        assert bench.left_s(arrival(timestamp=NOW_S), 600.0) == pytest.approx(601.0 - (passed_s - 1000.0))
    bench.look(1400.0, NOW_S + 400)
    assert bench.left_s(arrival(NOW_S + 450)) == 50.0


def test_a_clock_that_stays_ahead_is_believed_after_a_while() -> None:
    bench = Bench()
    bench.look(1001.0, NOW_S + 1 + DAY_S)
    bench.look(1001.0 + BELIEVED_AFTER_S, NOW_S + 1 + BELIEVED_AFTER_S + DAY_S)
    assert bench.left_s(arrival(NOW_S)) == -(1 + BELIEVED_AFTER_S + DAY_S)


def test_a_clock_that_is_set_again_meanwhile_is_doubted_again() -> None:
    bench = Bench()
    bench.look(1001.0, NOW_S + DAY_S)
    bench.look(1200.0, NOW_S + 2 * DAY_S)
    bench.look(1001.0 + BELIEVED_AFTER_S, NOW_S + 2 * DAY_S + 101.0)
    assert bench.left_s(arrival(NOW_S + 1001)) == 700.0


def test_a_clock_that_is_set_back_counts_at_once() -> None:
    bench = Bench()
    bench.look(1001.0, NOW_S - DAY_S)
    assert bench.left_s(arrival(NOW_S)) == DAY_S


def test_a_clock_that_is_slewed_is_followed() -> None:
    bench = Bench()
    for second in range(1, 31):
        bench.look(1000.0 + second, NOW_S + 1.1 * second)
    assert bench.left_s(arrival(NOW_S + 33)) == 0.0


# ---- the reason -----------------------------------------------------------------------------------------------------


def test_the_reason_has_both_times() -> None:
    shown = "2027-01-15T08:00:00.000Z"
    bench = Bench()
    assert bench.reason(arrival(timestamp=NOW_S), 600.0, 720.0) == (
        f"not begun in time: published {shown}, 12m ago; max_wait is 10m"
    )
    bench = Bench()
    assert bench.reason(arrival(), 600.0, 720.0) == (
        f"not begun in time: without a timestamp, read first {shown}, 12m ago; max_wait is 10m"
    )
    bench = Bench()
    assert bench.reason(arrival(NOW_S), 600.0, 720.0) == (f"not begun in time: x-preforkd-expires is {shown}, 12m ago")
