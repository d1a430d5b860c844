"""Work in hand that does not move: a worker that has messages and begins none is noticed, then named to the master."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.consumer.stalls import LOOK_S, NAMED_S, NOTICED_S, Stalls
from supervisor.link.frames import Incarnation, RunId, Stalled
from supervisor.master.limits.run_limits import RunLimits
from supervisor.master.limits.standstill import LOOK_S as MASTERS_LOOK_S
from supervisor.master.limits.standstill import Standstill
from supervisor.master.pool.children import Child, Kind
from supervisor.master.pool.pool import Pool
from supervisor.scoreboard.words import Intent, LimitSource, OutcomeKind
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from tests.support.daemon import daemon
from tests.support.master_pool import make_pool
from tests.support.sessions import Bench, W
from tests.support.waiting import eventually

RUN = RunId(b"k" * 24, 1, 1)


# ---- the consumer notices -------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


class Watched:
    """A session whose only worker was given a message; `after(seconds)` looks as often as it would in that time."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        assert bench.slot.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, W.generation)
        session = bench.session
        session.open(set(), consume=True)
        bench.until_waiting()
        (entry,) = session.settlement.assignments.waiting.values()
        session.settlement.assignments.assign(entry, W)
        self.run = entry.run
        self.stalls = Stalls(session.settlement, session.outcomes, session.pipeline, session.observer)
        self.now_s = 1000.0
        self.stalls.look(self.now_s)

    def after(self, seconds: float) -> list[str]:
        """The symptoms there are then."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += LOOK_S
            self.stalls.look(self.now_s)
        return [symptom.name for symptom in self.bench.session.observer.health.present]

    def begin(self) -> None:
        """The worker begins its message."""
        self.bench.slot.mark_running(self.run, "m", 0.0, monotonic_s(), 0.0, LimitSource.POOL)


@pytest.fixture
def watched(bench: Bench) -> Watched:
    return Watched(bench)


def test_a_worker_that_begins_nothing_is_a_symptom_and_then_named_to_the_master(watched: Watched) -> None:
    assert watched.after(NOTICED_S - LOOK_S) == []
    assert watched.after(LOOK_S) == ["worker.stalled"]
    (symptom,) = watched.bench.session.observer.health.present
    assert (symptom.degrades, "p/0 has 1" in symptom.text) == (True, True)
    assert watched.stalls.take() == []
    watched.after(NAMED_S - NOTICED_S)
    assert watched.stalls.take() == [Stalled(W, 1, NAMED_S)]
    assert watched.stalls.take() == []


def test_a_worker_that_begins_its_message_is_well_however_long_that_takes(watched: Watched) -> None:
    assert watched.after(NOTICED_S) == ["worker.stalled"]
    watched.begin()
    assert watched.after(LOOK_S) == []
    assert watched.after(10 * NAMED_S) == []
    assert watched.stalls.take() == []


def test_a_look_that_comes_late_or_a_slow_disk_gives_all_children_a_grace(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.after(NOTICED_S - LOOK_S)
    watched.now_s += 3600.0  # frozen, all of us
    assert watched.after(NOTICED_S) == []
    assert watched.after(LOOK_S) == ["worker.stalled"]
    monkeypatch.setattr(type(watched.bench.session.pipeline), "held_up", property(lambda pipeline: True))
    assert watched.after(10 * NAMED_S) == []
    assert watched.stalls.take() == []


def test_a_worker_whose_ring_is_full_waits_for_us_and_is_not_blamed(watched: Watched) -> None:
    slot = watched.bench.slot
    while slot.free_cell():
        watched.begin()
        slot.mark_outcome(OutcomeKind.DONE, None, 0.1, "")
    assert watched.after(2 * NAMED_S) == []
    assert watched.stalls.take() == []


def test_messages_that_no_worker_takes_are_a_stall_of_the_pool_unless_it_is_paused(bench: Bench) -> None:
    session = bench.session
    session.open(set(), consume=True)
    bench.until_waiting()
    stalls = Stalls(session.settlement, session.outcomes, session.pipeline, session.observer)
    for second in range(0, 40, 2):
        stalls.look(1000.0 + second)
    (symptom,) = session.observer.health.present
    assert (symptom.name, "1 for a worker" in symptom.text) == ("pool.stalled", True)
    session.drain()
    stalls.look(1040.0)
    assert session.observer.health.present == []


# ---- the master ends it ---------------------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = make_pool(tmp_path, workers=1)
    pool.was_ready = True
    yield pool
    pool.close()


@pytest.fixture
def process(pool: Pool) -> Iterator[subprocess.Popen[bytes]]:
    """The worker in the pool's only place; its marks are the test's."""
    process = subprocess.Popen(["sh", "-c", "trap '' QUIT; exec sleep 1000"])
    eventually(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it ignores SIGQUIT")
    ticks = posix.start_ticks(process.pid) or 0
    assert pool.slots[0].take(process.pid, ticks, W.generation)
    pool.workers[0].child = Child("email", Kind.WORKER, 0, process.pid, ticks, W.generation, 0.0, ready_s=0.0)
    yield process
    process.kill()
    process.wait()


def judged(pool: Pool, *named: Stalled) -> RunLimits:
    """All steps that the master takes with those that were named."""
    limits = RunLimits([pool], monotonic_s())
    for stalled in named:
        pool.consumer_channel.reported(stalled)
    eventually(lambda: limits.turn(monotonic_s()) or not limits.sequences, "it is over")
    return limits


def test_who_was_named_is_killed_with_the_reason_even_while_it_is_stopped(
    pool: Pool, process: subprocess.Popen[bytes]
) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    judged(pool, Stalled(W, 3, 30.0))
    assert process.wait() == -signal.SIGKILL
    assert pool.slots[0].intent(W.generation) is Intent.TIMEOUT_KILL
    child = pool.workers[0].child
    assert child is not None
    assert child.requested_by == "no progress for 30 s"


def test_who_has_begun_a_message_meanwhile_is_left_alone(pool: Pool, process: subprocess.Popen[bytes]) -> None:
    limits = RunLimits([pool], monotonic_s())
    pool.consumer_channel.reported(Stalled(W, 3, 30.0))
    os.kill(process.pid, signal.SIGSTOP)
    limits._end_stalled(pool)
    pool.slots[0].mark_running(RUN, "m", 0.0, 1.0, 0.0, LimitSource.POOL)
    eventually(lambda: limits.turn(monotonic_s()) or not limits.sequences, "it is over")
    eventually(lambda: posix.executes(process.pid), "it goes on")


def test_a_former_owner_of_the_slot_was_meant_and_not_the_present_one(
    pool: Pool, process: subprocess.Popen[bytes]
) -> None:
    limits = judged(pool, Stalled(Incarnation(0, W.generation - 1), 3, 30.0))
    assert (limits.sequences, process.poll()) == ({}, None)


def test_a_pool_without_anybody_to_run_messages_says_so_after_a_while(pool: Pool) -> None:
    standstill, now_s = Standstill([pool]), 1000.0
    names = []
    for _ in range(4):
        standstill.turn(now_s)
        names.append([symptom.name for symptom in pool.symptoms.present])
        now_s += MASTERS_LOOK_S
    assert names == [[], [], ["pool.unmanned"], ["pool.unmanned"]]


def test_a_worker_stopped_in_a_run_without_a_limit_is_said(pool: Pool, process: subprocess.Popen[bytes]) -> None:
    pool.consumer.child = Child("email", Kind.CONSUMER, None, os.getpid(), 0, 1, 0.0, ready_s=0.0)
    pool.slots[0].mark_running(RUN, "m", 0.0, 1.0, 0.0, LimitSource.POOL)
    os.kill(process.pid, signal.SIGSTOP)
    eventually(lambda: posix.is_stopped(process.pid), "it is stopped")
    standstill = Standstill([pool])
    for look in range(2):
        standstill.turn(1000.0 + look * MASTERS_LOOK_S)
    (symptom,) = pool.symptoms.present
    assert (symptom.name, "email/0" in symptom.text) == ("worker.stopped", True)
    os.kill(process.pid, signal.SIGCONT)
    eventually(lambda: not posix.is_stopped(process.pid), "it goes on")
    standstill.turn(1000.0 + 2 * MASTERS_LOOK_S)
    assert pool.symptoms.present == []


# ---- all together ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif("PREFORKD_SOAK" not in os.environ, reason="takes half a minute: PREFORKD_SOAK")
def test_what_an_idle_worker_that_was_stopped_is_given_is_run_by_its_successor_uncharged(tmp_path: Path) -> None:
    with daemon(tmp_path, 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"') as under_test:
        pid = under_test.worker()["pid"]
        os.kill(pid, signal.SIGSTOP)
        under_test.send("nothing", message_id="m")
        eventually(lambda: under_test.pool()["state"] == "degraded", "it is noticed", 30.0)
        assert [symptom["name"] for symptom in under_test.pool()["symptoms"]] == ["worker.stalled"]
        record = eventually(lambda: under_test.exits(pid=pid), "it is ended", 60.0)[0]
        assert (record["cause"], record["requested_by"]) == ("timeout", "no progress for 30 s")
        eventually(lambda: under_test.marked("done") == ["m"], "the next one runs it")
        assert under_test.marked("begun")[0].split()[:2] == ["m", "1"]
