"""Messages that wait for their next attempt in a delay queue which is deleted or purged: told, and mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers.base import Confirmed, Depth, Held
from supervisor.brokers.names import retry_queue
from tests.support.brokers import Backend, Driver, an_outgoing
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

POOL = 'workers = 1\nmax_attempts = 3\nretry_delays = ["5m"]\n'
LOST = ("lost-1", "lost-2")


def deleted(under_test: RabbitDaemon) -> None:
    with under_test.node.channel() as channel:
        channel.queue_delete(retry_queue(under_test.queue, 300))


def failed_once(under_test: RabbitDaemon) -> None:
    under_test.send_all(under_test.order("fail", message_id=name) for name in LOST)
    under_test.wait_counted(retried=len(LOST))


def told(under_test: RabbitDaemon) -> dict[str, Any]:
    """The symptom, as soon as it is there."""

    def found() -> dict[str, Any] | None:
        return next((one for one in under_test.pool()["symptoms"] if one["name"] == "retries.lost"), None)

    return eventually(found, "the loss is told")


def listed(under_test: RabbitDaemon) -> list[str]:
    lines = under_test.cli_ok("pending", "list", "email", "--json").splitlines()
    return sorted(json.loads(line)["message_id"] for line in lines)


def test_retries_whose_delay_queue_is_deleted_are_named_and_mended_by_publishing_them_again(
    node: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, node, POOL) as under_test:
        failed_once(under_test)
        deleted(under_test)

        assert "was deleted" in told(under_test)["text"]
        assert under_test.pool()["state"] == "degraded"
        gone = under_test.events("message.gone")
        assert sorted(line["message_id"] for line in gone) == list(LOST)
        assert under_test.counted("gone") == len(LOST)
        assert listed(under_test) == list(LOST)
        assert "the same id and content" in under_test.cli_ok("why", "lost-1")

        under_test.send("fail", message_id="lost-1")  # as its publisher would, with the same id
        under_test.wait_counted(retried=len(LOST) + 1)
        assert listed(under_test) == ["lost-2"]
        assert under_test.runs("lost-1") == [1]
        under_test.cli_ok("pending", "drop", "email", "lost-2")
        eventually(lambda: under_test.pool()["state"] == "ok", "nothing is wrong any more")


def test_retries_whose_delay_queue_was_deleted_while_the_daemon_was_down_are_named_at_the_start_and_at_each_later_one(
    node: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, node, POOL) as under_test:
        failed_once(under_test)
        under_test.stop()
        deleted(under_test)
        for _start in range(2):
            under_test.start()
            assert "was deleted" in told(under_test)["text"]
            assert listed(under_test) == list(LOST)
            under_test.stop()
        assert len(under_test.events("message.gone")) == len(LOST)


def held(driver: Driver, *queues: str) -> list[int | None]:
    """What is answered about these."""
    before = len(driver.of(Held))
    driver.broker.probe(queues)
    driver.next(Depth)
    answers = driver.until(lambda: driver.of(Held)[before + len(queues) - 1 :], "all are answered")
    assert answers[-1].queue == queues[-1]
    return [answer.messages for answer in driver.of(Held)[-len(queues) :]]


def test_a_delay_queue_is_asked_for_what_it_holds_and_whether_it_is_there(
    backend: Backend, driver: Driver, rabbitmq: RabbitNode
) -> None:
    queue = retry_queue(driver.pool.queue, 0.25)
    hour = retry_queue(driver.pool.queue, 3600)
    assert held(driver, queue) == [0]
    driver.broker.publish(an_outgoing(1, "", b"later", delay_s=3600))
    driver.next(Confirmed)
    driver.until(lambda: held(driver, hour) == [1], "the copy is counted")
    with rabbitmq.channel() as channel:
        channel.queue_purge(hour)
    driver.until(lambda: held(driver, hour) == [0], "the copy is gone")
    with rabbitmq.channel() as channel:
        channel.queue_delete(hour)
    assert held(driver, hour, queue) == [None, 0]
    assert driver.depth().consumers == 1


def test_a_delay_queue_that_was_missing_and_is_made_again_is_told(driver: Driver, rabbitmq: RabbitNode) -> None:
    hour = retry_queue(driver.pool.queue, 3600)
    driver.broker.publish(an_outgoing(1, "", b"later", delay_s=3600))
    driver.next(Confirmed)
    assert Held(hour, None) in driver.of(Held)
    with rabbitmq.channel() as channel:
        channel.queue_delete(hour)
