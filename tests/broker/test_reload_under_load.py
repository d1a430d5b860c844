"""Reloads under load on a real RabbitMQ: no publisher and no consumer can tell that one took place."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from supervisor.system.clock import monotonic_s
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

RELOADS = 50 if os.environ.get("PREFORKD_SOAK") else 8
WORKERS = 4
RUN_S = 0.05
BATCH = 100

LONGEST_GAP_S = 2.0
"""Between two messages that are done, by whichever worker: a run takes 50 ms, the rest is for a busy machine."""


class Load:
    """Messages without end, and the longest time in which none was done."""

    def __init__(self, under_test: RabbitDaemon) -> None:
        self.ids: list[str] = []
        self.longest_gap_s = 0.0
        self._under_test = under_test
        self._done, self._changed_s = 0, monotonic_s()
        self.go_on()

    def go_on(self) -> None:
        """Look how far it is, and send more before there is nothing left; to be called often."""
        now_s, done = monotonic_s(), len(self._under_test.marked("done"))
        self.longest_gap_s = max(self.longest_gap_s, now_s - self._changed_s)
        if done != self._done:
            self._done, self._changed_s = done, now_s
        if len(self.ids) - done < BATCH // 2:
            fresh = [f"m{number}" for number in range(len(self.ids), len(self.ids) + BATCH)]
            self._under_test.send_all(self._under_test.order("sleep", RUN_S, message_id=id) for id in fresh)
            self.ids += fresh


def settings(number: int) -> str:
    """Settings of which some are others each time, and none that the connection is made of."""
    return f'workers = {WORKERS}\ntimeout = "{20 + number}s"\nmax_timeout = "5m"\nmax_attempts = {2 + number % 3}'


def reload_once(under_test: RabbitDaemon, number: int, load: Load) -> None:
    """Reload, with load to its very end."""
    under_test.configure(settings(number))
    under_test.ask("reload")

    def over() -> bool:
        load.go_on()
        return bool(under_test.status()["state"] == "running")

    eventually(over, f"reload {number} is over", 60.0)


def test_reloads_in_a_row_lose_nothing_repeat_nothing_and_keep_the_connection(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, settings(0)) as under_test:
        before = under_test.lines()
        load = Load(under_test)
        pids = {worker["pid"] for worker in under_test.pool()["workers"]}
        for number in range(1, RELOADS + 1):
            reload_once(under_test, number, load)
            assert load.longest_gap_s < LONGEST_GAP_S, f"reload {number}"
            now = {worker["pid"] for worker in under_test.pool()["workers"]}
            assert len(now) == WORKERS
            assert not now & pids, "an old process is still there"
            pids = now
        ids = load.ids
        under_test.wait_done(*ids, timeout_s=60.0)
        eventually(under_test.settled, "everything is acked")

        assert Counter(under_test.marked("done")) == Counter(ids)
        begun = [line.split() for line in under_test.marked("begun")]
        assert Counter((id, attempt) for id, attempt, _pid in begun) == Counter((id, "1") for id in ids)
        under_test.wait_counted(done=len(ids), failed=0, duplicate=0, dropped=0)
        assert (under_test.wires(), under_test.channels()) == before
        assert under_test.pool()["consumer"]["connection"]["opened"] == 2
        assert len(under_test.events("reload.done")) == RELOADS
        assert {exit_["cause"] for exit_ in under_test.exits()} == {"clean_stop"}


def test_a_setting_of_the_connection_costs_one_connection_and_no_message(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, settings(0)) as under_test:
        ids = [f"m{n}" for n in range(2 * BATCH)]
        under_test.send_all(under_test.order("sleep", RUN_S, message_id=id) for id in ids)
        eventually(lambda: under_test.marked("done"), "work has begun")
        consumer = under_test.pool()["consumer"]["pid"]
        under_test.configure(settings(0) + "\nprefetch = 10")
        under_test.ask("reload")
        eventually(lambda: under_test.status()["state"] == "running", "the reload is over")
        under_test.wait_done(*ids, timeout_s=60.0)
        eventually(under_test.settled, "everything is acked")

        assert under_test.pool()["consumer"]["pid"] != consumer
        assert Counter(under_test.marked("done")) == Counter(ids)
        assert len(under_test.marked("begun")) == len(ids)
        assert len(under_test.wires()) == 2
        assert under_test.pool()["consumer"]["connection"]["opened"] == 2
        assert under_test.pool()["counters"]["duplicate"] == 0, "what ran was acked over the old connection"


def test_a_paused_pool_holds_nothing_back_and_goes_on_with_everything(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, settings(0)) as under_test:
        before = under_test.lines()
        ids = [f"m{n}" for n in range(2 * BATCH)]
        under_test.send_all(under_test.order("sleep", RUN_S, message_id=id) for id in ids)
        eventually(lambda: under_test.marked("done"), "work has begun")
        under_test.ask("pause", pool="email", by="test")
        eventually(lambda: under_test.unacked() == 0, "nothing is held unsettled")
        done = len(under_test.marked("done"))
        assert rabbitmq.depth(under_test.queue) == len(ids) - done
        under_test.ask("resume", pool="email")
        under_test.wait_done(*ids, timeout_s=60.0)
        eventually(under_test.settled, "everything is acked")

        assert Counter(under_test.marked("done")) == Counter(ids)
        assert len(under_test.marked("begun")) == len(ids)
        assert (under_test.wires(), under_test.channels()) == before
