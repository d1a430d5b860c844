"""Processes that the master may not end: they are named, and everything else goes on."""

from __future__ import annotations

import os
import signal

from supervisor.system.posix import executes
from tests.support.unprivileged import Unprivileged, unprivileged
from tests.support.waiting import eventually

ONE = (
    'workers = 2\ntimeout = "300ms"\nkill_grace = "200ms"\nmax_timeout = "60s"\n'
    'max_attempts = 2\nretry_delays = ["100ms"]\n'
)


def begun(under_test: Unprivileged, message_id: str) -> int:
    """The pid of the worker that has begun this message."""
    lines = [line.split() for line in under_test.marked("begun")]
    return next((int(pid) for name, _attempt, pid in lines if name == message_id), 0)


def test_a_worker_that_may_not_be_signalled_is_named_and_all_others_go_on() -> None:
    with unprivileged(ONE) as under_test:
        under_test.send("become_deaf", *under_test.root, "sleep", "1000", message_id="deaf")
        deaf = eventually(lambda: begun(under_test, "deaf"), "it has begun")
        (line,) = eventually(lambda: under_test.events("child.unkillable"), "it is named")
        assert str(deaf) in line["message"]
        assert under_test.pool()["state"] == "degraded"
        assert str(deaf) in under_test.pool()["why"]
        (other,) = [worker["pid"] for worker in under_test.pool()["workers"] if worker["pid"] != deaf]
        os.kill(other, signal.SIGKILL)
        under_test.exit(pid=other)
        under_test.send("nothing")
        eventually(lambda: "nothing" in under_test.marked("done"), "other messages are done")
        assert executes(deaf)
        under_test.end_as_root(deaf)
        record = under_test.exit(pid=deaf)
        assert (record["cause"], record["run"], record["message_id"]) == ("killed", "in_doubt", "deaf")
        assert "another user" in record["unkillable"]
        eventually(lambda: under_test.pool()["state"] == "ok", "the pool is well")


def test_a_stop_leaves_a_worker_behind_that_may_not_be_signalled() -> None:
    with unprivileged(ONE) as under_test:
        under_test.send("become_deaf", *under_test.root, "sleep", "1000", message_id="deaf")
        eventually(lambda: under_test.events("child.unkillable"), "it is named")
        answer = under_test.ask("stop", now=True)
        assert answer["stopping"]
        assert under_test.wait(15) == 0
        under_test.end_as_root(begun(under_test, "deaf"))
        assert under_test.events("daemon.stopped")
