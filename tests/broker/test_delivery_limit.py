"""Quorum queues drop what comes back too often: messages outlive more lost connections than their queue allows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest

from supervisor.brokers.amqp import connection
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.consumer import session
from supervisor.consumer.observe import health
from tests.support.hand_turned import HandTurned
from tests.support.rabbitmq import RabbitNode
from tests.support.trixie import RELEASES

pytestmark = pytest.mark.rabbitmq

IDS = {f"m{number}" for number in range(30)}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many lost connections in seconds instead of minutes."""
    monkeypatch.setattr(connection, "_FIRST_S", 0.05)
    monkeypatch.setattr(connection, "_CAP_S", 0.05)


def declare(node: RabbitNode, queue: str, limit: int | None) -> None:
    """The application's quorum queue, with all the messages in it."""
    with node.channel() as channel:
        arguments = {"x-queue-type": "quorum"} | ({} if limit is None else {"x-delivery-limit": limit})
        channel.queue_declare(queue, durable=True, arguments=arguments)
        for id in sorted(IDS):
            properties = pika.BasicProperties(message_id=id, delivery_mode=2, headers={"mine": "yes"})
            channel.basic_publish("", queue, b"body", properties)


def lose_connection(turned: HandTurned) -> None:
    turned.session.broker.cut()
    turned.until(lambda: not turned.session.observer.subscribed, "the connection is lost")
    turned.until(lambda: turned.session.observer.subscribed, "it is back")


def all_read(turned: HandTurned, least: int, channel: Any, queue: str) -> bool:
    """Whether no message is on its way from the broker, and all worn ones in hand are saved.

    A message that is neither ready nor in hand is on its way. The queue may hold a copy besides its message.
    """
    in_hand = len(turned.session.settlement.entries)
    if in_hand < least or not turned.session.at_rest:
        return False
    return in_hand + channel.queue_declare(queue, passive=True).method.message_count >= len(IDS)


def lost_again_and_again(
    node: RabbitNode, directory: Path, limit: int | None, losses: int, queue_arguments: dict[str, Any]
) -> tuple[Counter[str], list[str]]:
    """30 messages without a worker, and so many lost connections: how often each is in the queue then; what the
    consumer noticed."""
    queue = f"limit-{uuid4().hex[:8]}"
    declare(node, queue, limit)
    pool = PoolConfig("p", queue, "h:h", declare=False, queue_arguments=queue_arguments)
    turned = HandTurned(directory, pool, BrokerConfig(urls=(node.url,)))
    turned.start()
    with node.channel() as channel:
        for _ in range(losses):
            turned.until(lambda: all_read(turned, pool.workers, channel, queue), "all that was pushed is in hand")
            lose_connection(turned)
    turned.until(lambda: turned.session.at_rest, "no copy is under way")
    noticed = [symptom.name for symptom in turned.session.snapshot().symptoms]
    turned.close()
    found: Counter[str] = Counter()
    with node.channel() as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found[got[1].message_id] += 1
            assert (got[1].headers["mine"], got[2]) == ("yes", b"body")
        channel.queue_delete(queue)
    return found, noticed


@pytest.mark.parametrize(("limit", "known", "losses"), [(1, True, 4), (2, True, 6), (2, False, 6), (20, False, 26)])
def test_no_message_is_dropped_by_the_limit_of_its_queue(
    node: RabbitNode, tmp_path: Path, limit: int, known: bool, losses: int
) -> None:
    arguments = {"x-delivery-limit": limit} if known else {}
    found, noticed = lost_again_and_again(node, tmp_path, limit, losses, arguments)
    assert set(found) == IDS
    assert "queue.delivery_limit" in noticed


@pytest.mark.skipif("rabbit_4" not in RELEASES, reason="only RabbitMQ 4 has a limit by default")
def test_no_message_is_dropped_by_the_default_limit_of_rabbitmq_4(rabbit_4: RabbitNode, tmp_path: Path) -> None:
    found, _ = lost_again_and_again(rabbit_4, tmp_path, None, 26, {})
    assert set(found) == IDS


def test_fewer_messages_are_in_hand_while_they_come_back_too_often(
    rabbitmq: RabbitNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in hand when a connection ends counts as returned, whether it was begun or not."""
    monkeypatch.setattr(session, "PROBE_INTERVAL_S", 0.2)
    queue = f"narrow-{uuid4().hex[:8]}"
    declare(rabbitmq, queue, 20)
    pool = PoolConfig("p", queue, "h:h", workers=3, declare=False, queue_arguments={"x-delivery-limit": 1})
    turned = HandTurned(tmp_path, pool, BrokerConfig(urls=(rabbitmq.url,)))
    entries = turned.session.settlement.entries
    turned.start()
    turned.until(lambda: len(entries) == len(IDS), "all are in hand")
    lose_connection(turned)
    turned.until(lambda: turned.session.at_rest and len(entries) == len(IDS), "all are saved, and in hand again")
    lose_connection(turned)
    turned.until(lambda: turned.session.at_rest and len(entries) == 3, "three are in hand")
    told = turned.session.observer.health.queue_status
    turned.until(lambda: told().ready >= len(IDS) - 3, "the others are not")
    monkeypatch.setattr(health, "WORN_CALM_S", 0.0)
    turned.until(lambda: len(entries) == len(IDS) and turned.session.at_rest, "all are in hand once it is calm")
    turned.close()
    with rabbitmq.channel() as channel:
        channel.queue_delete(queue)
