"""A whole daemon while an operator sets its machine's clock: real processes, the embedded queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.system.clock import wall_s
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually
from tests.support.wall_clock import WallClock


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(tmp_path, monkeypatch)


def send_again(under_test: Daemon, count: int) -> None:
    """Send ids 0 to `count` and wait until each is settled: as a run, a duplicate or a dead letter."""

    def settled() -> int:
        counters = under_test.pool()["counters"]
        return sum(counters.get(name, 0) for name in ("done", "duplicate", "dead"))

    before = settled()
    for number in range(count):
        under_test.send("nothing", message_id=str(number), timestamp=int(wall_s()))
    eventually(lambda: settled() == before + count, "all are settled")


def test_a_clock_that_is_ten_days_ahead_for_a_moment_makes_nothing_run_again_or_expire_and_is_told(
    tmp_path: Path, clock: WallClock
) -> None:
    with daemon(tmp_path, 'workers = 1\nmax_wait = "10m"') as under_test:
        send_again(under_test, 20)
        clock.set(864_000.0)
        jumped = eventually(lambda: under_test.events("clock.jumped"), "the jump is told")
        assert "set forward by 10d" in jumped[0]["message"]
        eventually(lambda: [each["name"] for each in under_test.pool()["symptoms"]] == ["clock.jumped"], "it is shown")
        send_again(under_test, 25)
        clock.set(0.0)
        eventually(lambda: len(under_test.events("clock.jumped")) == 2, "its end is told, too")
        send_again(under_test, 25)
        assert len(under_test.marked("done")) == 25
        assert under_test.pool()["state"] == "ok"
        assert under_test.pool()["counters"]["duplicate"] == 45


def test_a_boot_in_1970_that_is_set_right_later_makes_nothing_run_again(tmp_path: Path, clock: WallClock) -> None:
    clock.set(-wall_s() + 60.0)
    with daemon(tmp_path) as under_test:
        send_again(under_test, 10)
        clock.set(0.0)
        eventually(under_test.has("clock.jumped"), "the jump is told")
        send_again(under_test, 10)
        assert under_test.stop() == 0
        under_test.start()
        send_again(under_test, 10)
        assert len(under_test.marked("done")) == 10
