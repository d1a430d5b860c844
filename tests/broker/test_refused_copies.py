"""Copies that RabbitMQ refuses for good: what it would take goes on, nothing is lost, and the pool says why."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers.amqp.queues import QUORUM
from supervisor.system.clock import monotonic_s
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


ONCE = 'workers = 1\nprefetch = 10\nmax_attempts = 1\nretry_delays = ["100ms"]\n'
BAD, GOOD = [f"bad-{number}" for number in range(25)], [f"good-{number}" for number in range(5)]


def send(under_test: RabbitDaemon) -> None:
    """Many that fail, far more than the window holds, and behind them some that do not."""
    bad = [under_test.order("reject", message_id=name) for name in BAD]
    under_test.send_all([*bad, *(under_test.order("nothing", message_id=name) for name in GOOD)])


def symptom(under_test: RabbitDaemon) -> dict[str, Any] | None:
    return next((one for one in under_test.pool()["symptoms"] if one["name"] == "copies.refused"), None)


def each_once(under_test: RabbitDaemon) -> None:
    """Every bad message is dead-lettered exactly once, and every failure was told exactly once."""
    under_test.wait_counted(dead=len(BAD), timeout_s=60)
    eventually(under_test.settled, "all are acked")
    assert sorted(properties.message_id for properties, _ in under_test.dead()) == sorted(BAD)
    for event in ("message.failed", "message.dead"):
        assert sorted(line["message_id"] for line in under_test.events(event)) == sorted(BAD)


def full(node: RabbitNode, under_test: RabbitDaemon) -> None:
    with node.channel() as channel:
        arguments = QUORUM | {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare(f"{under_test.queue}.dead", durable=True, arguments=arguments)
        channel.confirm_delivery()
        channel.basic_publish("", f"{under_test.queue}.dead", b"fills it")
        channel.basic_publish("", f"{under_test.queue}.dead", b"fills it, too")


def emptied(node: RabbitNode, under_test: RabbitDaemon) -> None:
    with node.channel() as channel:
        channel.queue_delete(f"{under_test.queue}.dead")


def test_good_messages_run_while_the_dead_letter_queue_is_full(node: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, node, ONCE, start=False) as under_test:
        full(node, under_test)
        under_test.start()
        send(under_test)
        under_test.wait_counted(done=len(GOOD), failed=len(BAD))
        eventually(lambda: symptom(under_test), "a symptom is told")
        assert under_test.pool()["state"] == "degraded"
        assert f"{under_test.queue}.dead" in under_test.pool()["why"]
        assert len(under_test.events("copies.refused")) == 1
        refused = [line["message_id"] for line in under_test.events("copy.refused")]
        assert sorted(refused) == sorted(BAD)
        assert under_test.events("queue.shared") == []

        emptied(node, under_test)  # the daemon declares it again
        each_once(under_test)
        eventually(lambda: symptom(under_test) is None, "the symptom has healed")
        assert under_test.pool()["state"] == "ok"


def test_a_stop_leaves_refused_copies_on_record_at_once_and_the_next_start_places_them(
    node: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, node, ONCE, start=False, daemon='stop_timeout = "60s"') as under_test:
        full(node, under_test)
        under_test.start()
        send(under_test)
        under_test.wait_counted(done=len(GOOD), failed=len(BAD))
        begun_s = monotonic_s()
        assert under_test.stop(signal.SIGTERM) == 0
        assert monotonic_s() - begun_s < 15
        emptied(node, under_test)
        under_test.start()
        each_once(under_test)


@pytest.mark.parametrize("fault", ["connections are closed", "the consumer is killed"])
def test_refused_copies_survive_faults_and_starve_nothing_afterwards(
    fault: str, node: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, node, ONCE, start=False) as under_test:
        full(node, under_test)
        under_test.start()
        send(under_test)
        under_test.wait_counted(done=len(GOOD), failed=len(BAD))
        if fault == "connections are closed":
            node.close_all_connections()
        else:
            os.kill(under_test.pool()["consumer"]["pid"], signal.SIGKILL)
        under_test.send("nothing", message_id="afterwards")
        under_test.wait_done("afterwards", timeout_s=60)
        eventually(lambda: under_test.pool()["state"] == "degraded", "the symptom is told again")
        emptied(node, under_test)
        each_once(under_test)


def deleted(node: RabbitNode, under_test: RabbitDaemon, queue: str) -> None:
    with node.channel() as channel:
        channel.queue_delete(f"{under_test.queue}.{queue}")


@pytest.mark.parametrize(
    ("queue", "settings", "deed", "counter"),
    [
        ("dead", "", "reject", "dead"),
        ("parked", 'on_crash = "park"\n', "leave_hard 1", "parked"),
        ("retry.100", "max_attempts = 2\n", "fail_first", "retried"),
    ],
)
def test_a_queue_of_copies_that_is_deleted_while_in_use_is_declared_again(
    queue: str, settings: str, deed: str, counter: str, node: RabbitNode, tmp_path: Path
) -> None:
    pool = ONCE.replace("max_attempts = 1\n", "") if "max_attempts" in settings else ONCE
    with rabbit_daemon(tmp_path, node, pool + settings) as under_test:
        for number in (1, 2):  # the queue is in use, then it is gone
            name, _, argument = deed.partition(" ")
            under_test.send(name, *map(int, argument.split()), message_id=f"message-{number}")
            under_test.wait_counted(**{counter: number})
            eventually(under_test.settled, "the message is settled")
            deleted(node, under_test, queue)
        under_test.send("nothing", message_id="good")
        under_test.wait_done("good")
        assert len(under_test.events("copy.refused")) == 1
        eventually(lambda: under_test.pool()["state"] == "ok", "nothing is wrong any more")
        letters = under_test.events("queue.declared", queue=f"{under_test.queue}.{queue}")
        assert ["of the 1 message(s)" in line["message"] for line in letters] == [True] * (queue in ("dead", "parked"))


def allow(node: RabbitNode, user: str, configure: str = ".*", write: str = ".*") -> None:
    node.set_permissions(user, (configure, write, ".*"))


def logged_in_as(under_test: RabbitDaemon, user: str) -> None:
    text = under_test.config_path.read_text()
    under_test.config_path.write_text(text.replace("guest:guest", f"{user}:pw"))


def test_good_messages_run_while_a_delay_queue_may_not_be_declared(node: RabbitNode, tmp_path: Path) -> None:
    """A handler's own delay needs a queue that no start has declared."""
    pool = 'workers = 1\nprefetch = 10\nretry_delays = ["100ms"]\n'
    with rabbit_daemon(tmp_path, node, pool, start=False) as under_test:
        user = f"user-{under_test.queue}"
        node.add_user(user, "pw", (r"^(?!.*retry\.250).*", ".*", ".*"))
        logged_in_as(under_test, user)
        under_test.start()
        bad = [under_test.order("retry_after", 0.25, message_id=name) for name in BAD]
        under_test.send_all([*bad, *(under_test.order("nothing", message_id=name) for name in GOOD)])
        under_test.wait_done(*GOOD)
        told = eventually(lambda: symptom(under_test), "a symptom is told")
        assert f"{under_test.queue}.retry.250" in told["text"]
        assert "right" in told["text"]

        allow(node, user)
        under_test.wait_counted(retried=len(BAD), timeout_s=60)
        under_test.wait_done(*BAD)
        assert all(under_test.runs(name) == [1, 2] for name in BAD)
        assert len(under_test.events("message.failed")) == len(BAD)


def test_good_messages_run_while_the_right_to_publish_is_missing(node: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, node, ONCE, start=False) as under_test:
        user = f"user-{under_test.queue}"
        node.add_user(user, "pw", (".*", ".*", ".*"))
        logged_in_as(under_test, user)
        under_test.start()
        allow(node, user, write="^$")
        node.close_connections_named("preforkd publisher email")  # rights are kept as long as a channel is open
        send(under_test)
        under_test.wait_counted(done=len(GOOD), failed=len(BAD))
        told = eventually(lambda: symptom(under_test), "a symptom is told")
        assert "right" in told["text"]
        allow(node, user)
        each_once(under_test)
        assert under_test.exits(kind="consumer") == []
