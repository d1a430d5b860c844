"""Two daemons on one queue: one loses its delivery, its run fails, and the other one has taken the message."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import ROOT, send_signal
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

HASTY = f"export PYTHONPATH='{ROOT / 'tests/support/hasty'}{os.pathsep}{ROOT}'; exec "
ID = "order-1"


@contextmanager
def rejected_here(folder: Path, node: RabbitNode, there: str, prefix: str = "") -> Iterator[list[RabbitDaemon]]:
    """The daemon that has rejected the message without its delivery, and the other, which has taken it and done with it
    as `there` says. `prefix`: as of `Daemon.start`, for the first one."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    with (
        rabbit_daemon(folder / "one", node, start=False) as one,
        rabbit_daemon(folder / "two", node, start=False, queue=one.queue) as two,
    ):
        for daemon in (one, two):
            os.mkfifo(daemon.marks / "word")
        one.start(prefix=prefix)
        one.send("told", "word", message_id=ID)
        one.pid_running(ID)
        two.start()
        send_signal(one.titled("consumer email"), signal.SIGKILL)
        two.pid_running(ID)
        tell(two, there)
        tell(one, "reject")
        eventually(one.has("message.failed", message_id=ID), "the first daemon knows that the run has failed")
        yield [one, two]


def tell(daemon: RabbitDaemon, word: str) -> None:
    """What the run that waits in this daemon is to do."""
    (daemon.marks / "word").write_text(word)


def in_flight(daemon: RabbitDaemon) -> int:
    """So many messages it waits for."""
    return int(daemon.pool()["consumer"]["in_flight"])


def test_the_wait_for_a_message_that_another_daemon_has_settled_ends(lent_rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rejected_here(tmp_path, lent_rabbitmq, "done", HASTY) as (one, two):
        two.wait_done(ID)
        (gone,) = eventually(
            lambda: one.events("message.gone", message_id=ID), "the first daemon waits no longer", 30.0
        )
        assert "another consumer has taken it, or it was purged" in gone["message"]
        one.wait_counted(gone=1)
        eventually(lambda: not in_flight(one), "it waits for nothing")
        assert (one.dead(), two.events("message.duplicate")) == ([], [])


def test_a_letter_of_another_daemon_is_run_at_once_when_it_is_retried(
    lent_rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with rejected_here(tmp_path, lent_rabbitmq, "reject") as (one, two):
        two.wait_counted(dead=1)
        two.stop()
        eventually(lambda: in_flight(one) == 1, "the first daemon waits for the message")
        one.cli_ok("dead", "retry", one.queue, "--all")
        eventually(lambda: one.worker()["message_id"] == ID, "the next round runs")
        tell(one, "done")
        one.wait_done(ID)
        one.wait_counted(done=1, dead=1)
        eventually(lambda: not in_flight(one), "it waits for nothing")
