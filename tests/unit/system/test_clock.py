"""Facts about the clock that a file keeps: what counts as time that passed."""

from __future__ import annotations

import pytest

from supervisor.system import clock
from supervisor.system.clock import Anchor, anchored, rfc3339


@pytest.fixture(autouse=True)
def _boottime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "boottime_s", lambda: 500.0)


def test_a_new_file_begins_where_it_is_told_to() -> None:
    assert anchored(None, "boot", 0.0, begin_s=9000.0).now_s == 9000.0


def test_in_the_same_boot_it_goes_on_whatever_the_wall_clock_says() -> None:
    former = Anchor("boot", 1000.0)
    assert anchored(former, "boot", 1200.0, begin_s=1e9) == former
    assert anchored(former, "boot", 1200.0, begin_s=0.0) == former


def test_in_another_boot_it_begins_where_it_is_told_to() -> None:
    assert anchored(Anchor("before", 1000.0), "boot", 1200.0, begin_s=1300.0).now_s == 1300.0


@pytest.mark.parametrize("former", [None, Anchor("before", 10.0), Anchor("boot", 10.0)])
def test_it_never_shows_less_than_the_latest_time_known(former: Anchor | None) -> None:
    """A clock at 1970; a container whose boot time begins again under the same boot id."""
    assert anchored(former, "boot", 7000.0, begin_s=3.0).now_s == 7000.0


@pytest.mark.parametrize(
    ("wall_s", "shown"),
    [
        (2**31, "2038-01-19T03:14:08.000Z"),
        (2**32, "2106-02-07T06:28:16.000Z"),
        (253402300799.0, "9999-12-31T23:59:59.000Z"),
        (1e18, "9999-12-31T23:59:59.000Z"),
        (float("inf"), "9999-12-31T23:59:59.000Z"),
        (-1e18, "1970-01-01T00:00:00.000Z"),
        (float("nan"), "1970-01-01T00:00:00.000Z"),
    ],
)
def test_every_time_can_be_said(wall_s: float, shown: str) -> None:
    assert rfc3339(wall_s) == shown
