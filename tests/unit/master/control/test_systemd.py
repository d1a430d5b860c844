"""What systemd is told when: histories of facts, and what was said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from supervisor.master.control.systemd import GRACE_S, TICK_S, Notifier, PoolFacts, StatusNotifier, sentence
from supervisor.master.stop.phases import CLOSE_S, Stop

STALE_S = 30.0
STARTED_S = 1000.0
READY = PoolFacts("email", beat_s=1.0)
BROKER_AWAY = PoolFacts("email", state="starting", why="connection refused", consuming=False, beat_s=1.0)


class Systemd(Notifier):
    """Remembers what it was told; `deaf`: takes nothing."""

    def __init__(self, watchdog_s: float | None = 30.0) -> None:
        super().__init__("", watchdog_s)
        self.deaf = False
        self.said: list[str] = []

    def send(self, lines: Iterable[str]) -> bool:
        """Take it, or not."""
        if not self.deaf:
            self.said += lines
        return not self.deaf


class Story:
    """A herald and the time that passes for it."""

    def __init__(self, watchdog_s: float | None = 30.0) -> None:
        self.systemd = Systemd(watchdog_s)
        self.notifier = StatusNotifier(self.systemd, STARTED_S, STALE_S)
        self.now_s = STARTED_S

    def tell(self, state: str, *pools: PoolFacts, after_s: float = 0.0, stop: Stop | None = None) -> list[str]:
        """What is said `after_s` seconds later, without the sentence."""
        self.now_s += after_s
        before = len(self.systemd.said)
        self.notifier.tell(state, pools, stop, self.now_s)
        return [line for line in self.systemd.said[before:] if not line.startswith("STATUS=")]

    def ticks(self, state: str, pool: PoolFacts, for_s: float) -> list[str]:
        """The same facts for so long; all that was said."""
        return [line for _ in range(round(for_s / TICK_S)) for line in self.tell(state, pool, after_s=TICK_S)]


# ---- ready --------------------------------------------------------------------------------------------------------


def test_ready_is_said_once_and_only_when_the_daemon_is() -> None:
    story = Story(watchdog_s=None)

    assert story.tell("starting", replace(READY, consuming=False)) == []
    assert story.tell("running", READY, after_s=1.0) == ["READY=1"]
    assert story.tell("running", READY, after_s=5.0) == []


def test_a_pool_without_its_broker_is_ready_after_a_grace_because_the_reason_is_stated() -> None:
    story = Story(watchdog_s=None)

    assert story.tell("starting", READY, BROKER_AWAY, after_s=GRACE_S - 1) == []
    assert story.tell("starting", READY, BROKER_AWAY, after_s=2.0) == ["READY=1"]
    assert story.tell("starting", READY, replace(BROKER_AWAY, why=""), after_s=1.0) == [], "it is not taken back"
    assert story.tell("running", READY, READY, after_s=1.0) == []


@pytest.mark.parametrize("unfinished", [replace(BROKER_AWAY, why=""), replace(BROKER_AWAY, manned=False)])
def test_a_pool_that_has_no_reason_or_no_workers_yet_is_waited_for(unfinished: PoolFacts) -> None:
    story = Story(watchdog_s=None)

    assert story.ticks("starting", unfinished, 10 * GRACE_S) == []


def test_what_was_not_taken_is_said_again_soon() -> None:
    story = Story(watchdog_s=None)
    story.systemd.deaf = True
    story.tell("running", READY)
    story.systemd.deaf = False

    assert story.notifier.due_s - story.now_s <= 1.0
    assert story.tell("running", READY, after_s=1.0) == ["READY=1"]


def test_a_reload_is_framed_by_reloading_and_ready() -> None:
    story = Story(watchdog_s=None)
    story.tell("running", READY)

    said = story.tell("reloading", READY, after_s=1.5)
    assert said[:2] == ["RELOADING=1", "MONOTONIC_USEC=1001500000"]
    assert extensions(said) == extensions(story.tell("reloading", READY, after_s=TICK_S)) == [3 * TICK_S]
    assert story.tell("running", READY, after_s=1.0) == ["READY=1"]


def test_a_new_state_is_due_at_once_and_else_the_next_tick() -> None:
    story = Story()
    assert story.notifier.is_due("starting", STARTED_S)
    story.tell("starting", READY)

    assert not story.notifier.is_due("starting", STARTED_S + 1.0)
    assert story.notifier.is_due("running", STARTED_S + 1.0)
    assert story.notifier.is_due("starting", STARTED_S + TICK_S)


# ---- watchdog -----------------------------------------------------------------------------------------------------


def test_pings_go_on_while_consumers_make_progress() -> None:
    story = Story()

    for beat in range(50):
        assert "WATCHDOG=1" in story.tell("running", replace(READY, beat_s=float(beat)), after_s=TICK_S)


@pytest.mark.parametrize(("watchdog_s", "tick_s"), [(30.0, 5.0), (3.0, 1.0), (None, 5.0)])
def test_three_pings_fit_into_what_systemd_allows(watchdog_s: float | None, tick_s: float) -> None:
    story = Story(watchdog_s)
    story.tell("running", READY)

    assert story.notifier.due_s - story.now_s <= tick_s


def test_without_a_watchdog_no_ping_is_sent() -> None:
    assert Story(watchdog_s=None).ticks("running", READY, 60.0) == ["READY=1"]


def test_pings_end_when_one_pools_consumers_stand_still_for_twice_the_hang_detectors_timeout() -> None:
    story = Story()
    story.tell("running", READY)
    pings = story.ticks("running", READY, 2 * STALE_S - TICK_S)

    assert pings.count("WATCHDOG=1") == len(pings) == 11
    assert story.ticks("running", READY, 60.0) == []
    assert "WATCHDOG=1" in story.tell("running", replace(READY, beat_s=2.0), after_s=TICK_S), "it was healed after all"


def test_consumers_that_wedge_one_after_another_are_counted_together() -> None:
    """Each replacement lives, as the hang detector allows; none of them makes progress."""
    story = Story()
    absent = replace(READY, consumer_alive=False)
    story.tell("running", READY)
    story.ticks("running", READY, STALE_S)
    story.ticks("running", absent, 10.0)

    story.ticks("running", READY, STALE_S)

    assert story.tell("running", READY, after_s=TICK_S) == []


def test_no_worker_is_blamed_while_there_is_no_consumer() -> None:
    """A consumer that is held, or waits for its next start, is explained elsewhere; a restart would not help."""
    story = Story()
    story.tell("running", READY)

    assert story.ticks("running", replace(READY, consumer_alive=False), 600.0).count("WATCHDOG=1") == 120


def test_a_master_that_was_suspended_does_not_blame_consumers_for_it() -> None:
    story = Story()
    story.tell("running", READY)

    assert "WATCHDOG=1" in story.tell("running", READY, after_s=3600.0)


# ---- stopping -----------------------------------------------------------------------------------------------------


def extensions(lines: list[str]) -> list[float]:
    """What was asked for, in seconds."""
    return [int(line.partition("=")[2]) / 1e6 for line in lines if line.startswith("EXTEND_TIMEOUT_USEC=")]


def test_a_stop_is_announced_and_asks_for_time_in_finite_pieces_up_to_its_own_end() -> None:
    story = Story()
    story.tell("running", READY)
    stop = Stop("SIGTERM", STARTED_S, 20.0)

    assert story.tell("stopping", READY, stop=stop)[0] == "STOPPING=1"
    asked = []
    for beat in range(2, 30):
        pool = replace(READY, beat_s=float(beat))
        for piece_s in extensions(story.tell("stopping", pool, after_s=TICK_S, stop=stop)):
            asked.append(story.now_s + piece_s)
    assert asked
    assert all(later - earlier <= 3 * TICK_S for earlier, later in pairwise(asked))
    assert max(asked) == stop.deadline_s
    assert stop.deadline_s == STARTED_S + 20.0 + 25.0 + CLOSE_S


def test_a_stop_that_makes_no_progress_gets_no_more_time() -> None:
    story = Story()
    story.tell("running", READY)
    stop = Stop("SIGTERM", STARTED_S, 3600.0)
    story.ticks("running", READY, 2 * STALE_S)

    assert extensions(story.tell("stopping", READY, after_s=TICK_S, stop=stop)) == []


# ---- the sentence -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "pools", "expected"),
    [
        (
            "running",
            [PoolFacts("email", ready_workers=4, workers=4, done=1200, crashes=2)],
            "email: 4/4 workers, 1 200 done, 2 crashes",
        ),
        ("running", [PoolFacts("a", crashes=1, timeouts=3)], "a: 1/1 workers, 0 done, 1 crash, 3 timeouts"),
        (
            "running",
            [PoolFacts("a"), PoolFacts("b", state="degraded", why="broker\naway")],
            "b: degraded, 1/1 workers, 0 done, 0 crashes (broker away); a: 1/1 workers, 0 done, 0 crashes",
        ),
        (
            "starting",
            [PoolFacts("a", state="starting", ready_workers=0)],
            "starting: a: 0/1 workers, 0 done, 0 crashes",
        ),
    ],
)
def test_the_sentence_for_operators(state: str, pools: list[PoolFacts], expected: str) -> None:
    assert sentence(state, pools, None, STARTED_S) == expected


def test_a_stopping_daemon_says_what_it_waits_for_and_how_long() -> None:
    stop = Stop("SIGTERM", STARTED_S, 60.0)
    pools = [PoolFacts("a", state="stopping", busy=1)]

    said = sentence("stopping", pools, stop, STARTED_S + 9.0)

    assert said == "stopping: 1 message still running, 51 s left; a: 1/1 workers, 0 done, 0 crashes"


def test_the_sentence_fits_into_a_datagram_that_systemd_reads() -> None:
    pools = [PoolFacts(f"pool-{number}", state="held", why="é" * 5000) for number in range(100)]

    assert len(sentence("running", pools, None, STARTED_S).encode()) <= 3000
