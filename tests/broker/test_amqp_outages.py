"""RabbitMQ goes away, hangs, raises alarms, deletes queues: what the consumer is told, and that it all heals."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest

from supervisor.brokers.amqp.broker import AmqpBroker
from supervisor.brokers.base import (
    Blocked,
    Cancelled,
    Confirmed,
    Delivery,
    Disconnected,
    Subscribed,
    Unblocked,
    Unpublished,
    Unresponsive,
)
from supervisor.brokers.names import dead_queue
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.system.clock import monotonic_s
from tests.support.brokers import Backend, Driver, a_pool, an_outgoing
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


# ---- connections --------------------------------------------------------------------------------------------------


def test_a_consumer_process_holds_two_named_connections(driver: Driver, rabbitmq: RabbitNode) -> None:
    names = {"preforkd consumer p", "preforkd publisher p"}

    eventually(lambda: rabbitmq.connection_names() == names, "exactly the two connections are open")
    assert driver.broker.connections_opened == 2


def test_connections_closed_by_the_operator_come_back(backend: Backend, driver: Driver, rabbitmq: RabbitNode) -> None:
    backend.put(driver.pool.queue, b"in flight")
    before = driver.next(Delivery)
    rabbitmq.close_all_connections()

    assert "closed by a test" in driver.next(Disconnected).reason
    after = driver.next(Delivery)
    assert (after.body, after.redelivered) == (b"in flight", True)
    assert after.epoch > before.epoch


def _older_than(since_s: float, age_s: float) -> bool:
    return monotonic_s() - since_s > age_s


def test_connections_that_are_closed_again_and_again_but_work_in_between_are_soon_back(driver: Driver) -> None:
    for _cut in range(3):
        up_s = monotonic_s()
        driver.until(partial(_older_than, up_s, 1.2), "the connection has worked for a while")
        driver.broker.cut()
        assert driver.next(Disconnected).retry_in_s <= 0.1
        driver.next(Subscribed)


def test_a_lost_publishing_connection_does_not_end_the_epoch(
    backend: Backend, driver: Driver, rabbitmq: RabbitNode
) -> None:
    backend.put(driver.pool.queue, b"in flight")
    delivery = driver.next(Delivery)
    rabbitmq.close_connections_named("preforkd publisher p")
    driver.until(lambda: driver.broker.connections_opened == 3, "the publishing connection is back")
    driver.broker.publish(an_outgoing(1, dead_queue(driver.pool.queue)))

    assert driver.next(Confirmed).token == 1
    assert driver.of(Disconnected) == []
    driver.ack(delivery)
    driver.wait_for_depth(0)


def test_a_broker_that_was_killed_brings_everything_back(lent_rabbitmq: RabbitNode, tmp_path: Path) -> None:
    backend = Backend(BrokerConfig(urls=(lent_rabbitmq.url,)), tmp_path)
    with backend.driver(a_pool()) as driver:
        driver.start()
        backend.put(driver.pool.queue, b"kept", b"acked")
        _kept, acked = driver.many(Delivery, 2)
        driver.ack(acked)
        driver.wait_for_depth(0)
        lent_rabbitmq.restart()

        driver.next(Disconnected)
        driver.next(Subscribed, timeout_s=60)
        again = driver.next(Delivery)
        assert (again.body, again.redelivered) == (b"kept", True)
        driver.broker.publish(an_outgoing(1, dead_queue(driver.pool.queue)))
        assert driver.next(Confirmed).token == 1


def test_a_hung_broker_is_noticed_within_two_heartbeats(lent_rabbitmq: RabbitNode, tmp_path: Path) -> None:
    heartbeat_s = 4.0
    backend = Backend(BrokerConfig(urls=(lent_rabbitmq.url,), heartbeat_s=heartbeat_s), tmp_path)
    with backend.driver(a_pool()) as driver:
        driver.start()
        lent_rabbitmq.stop_signal()
        stopped_s = monotonic_s()

        driver.until(lambda: driver.broker.silent_s > heartbeat_s, "the silence is seen")
        driver.next(Disconnected)
        assert monotonic_s() - stopped_s < 2 * heartbeat_s
        lent_rabbitmq.cont()
        driver.next(Subscribed, timeout_s=60)


def test_a_queue_that_does_not_answer_is_unresponsive(lent_rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with Backend(BrokerConfig(urls=(lent_rabbitmq.url,)), tmp_path).driver(a_pool()) as driver:
        driver.start()
        driver.depth()
        lent_rabbitmq.stop_signal()
        try:
            driver.broker.probe()
            assert driver.next(Unresponsive).waited_s == pytest.approx(5.0)
        finally:
            lent_rabbitmq.cont()
        driver.depth()


# ---- alarms -------------------------------------------------------------------------------------------------------


def _raise_alarm(driver: Driver, node: RabbitNode) -> None:
    """A memory alarm that the publishing connection knows of, which it does only after a publication."""
    node.set_memory_alarm()
    tokens = itertools.count(1000)

    def blocked() -> bool:
        driver.broker.publish(an_outgoing(next(tokens), dead_queue(driver.pool.queue)))
        return bool(driver.of(Blocked))

    driver.until(blocked, "an event Blocked")


def test_during_an_alarm_consuming_and_acking_go_on(backend: Backend, driver: Driver, rabbitmq: RabbitNode) -> None:
    backend.put(driver.pool.queue, b"1", b"2")
    first, second = driver.many(Delivery, 2)
    try:
        _raise_alarm(driver, rabbitmq)
        driver.broker.publish(an_outgoing(2, dead_queue(driver.pool.queue)))
        driver.ack(first)
        driver.broker.requeue(second.epoch, second.tag)
        driver.ack(driver.next(Delivery))
        driver.wait_for_depth(0)
        assert 2 not in {event.token for event in driver.of(Confirmed)}
    finally:
        rabbitmq.clear_memory_alarm()

    driver.next(Unblocked)
    driver.until(lambda: 2 in {event.token for event in driver.of(Confirmed)}, "it is confirmed")


def _fates(driver: Driver, token: int) -> list[Confirmed | Unpublished]:
    return [event for event in (*driver.of(Confirmed), *driver.of(Unpublished)) if event.token == token]


def test_a_publication_of_a_lost_epoch_has_its_fate_once(driver: Driver, rabbitmq: RabbitNode) -> None:
    try:
        _raise_alarm(driver, rabbitmq)
        driver.broker.publish(an_outgoing(2, dead_queue(driver.pool.queue)))
        rabbitmq.close_connections_named("preforkd consumer p")
        driver.next(Disconnected)
        driver.next(Subscribed)
        driver.broker.publish(an_outgoing(3, dead_queue(driver.pool.queue)))
    finally:
        rabbitmq.clear_memory_alarm()

    driver.until(lambda: _fates(driver, 2) and _fates(driver, 3), "both have a fate")
    assert [_fates(driver, token) for token in (2, 3)] == [[Confirmed(2)], [Confirmed(3)]]


def test_a_consuming_channel_that_closes_takes_no_publication_with_it(
    backend: Backend, driver: Driver, rabbitmq: RabbitNode
) -> None:
    """As after an ack timeout: the other connection is about to confirm what is on its way."""
    assert isinstance(driver.broker, AmqpBroker)
    assert driver.broker._subscription is not None
    dead = dead_queue(driver.pool.queue)
    driver.broker.publish(an_outgoing(1, dead, b"while its queue is looked for"))
    driver.until(lambda: _fates(driver, 1), "the first is confirmed")
    driver.broker.publish(an_outgoing(2, dead, b"on its way"))
    driver.broker._subscription._channel.basic_ack(999)  # 406 PRECONDITION_FAILED - unknown delivery tag
    driver.broker.publish(an_outgoing(3, dead, b"right behind"))
    driver.next(Disconnected)
    driver.next(Subscribed)

    driver.until(lambda: _fates(driver, 2) and _fates(driver, 3), "both have a fate")
    assert [_fates(driver, token) for token in (1, 2, 3)] == [[Confirmed(1)], [Confirmed(2)], [Confirmed(3)]]
    with backend.admin() as admin:
        eventually(lambda: (depth := admin.depth(dead)) is not None and depth.ready == 3, "one copy of each")
    assert driver.broker.connections_opened == 2


def test_a_publication_for_a_queue_that_is_looked_for_when_the_connection_ends_is_lost(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, dead_queue(driver.pool.queue)))
    assert isinstance(driver.broker, AmqpBroker)
    driver.broker._consuming.cut("a test")

    driver.until(lambda: _fates(driver, 1), "it has a fate")
    (fate,) = _fates(driver, 1)
    assert isinstance(fate, Unpublished)
    assert fate.lost


def test_a_publication_that_is_blocked_for_too_long_is_unpublished(
    backend: Backend, pool: PoolConfig, rabbitmq: RabbitNode
) -> None:
    impatient = BrokerConfig(urls=backend.config.urls, blocked_timeout_s=1.0)
    with backend.driver(pool, impatient) as driver:
        driver.start()
        try:
            _raise_alarm(driver, rabbitmq)
            driver.broker.publish(an_outgoing(2, dead_queue(pool.queue)))
            driver.until(lambda: 2 in {event.token for event in driver.of(Unpublished)}, "it is given up")
        finally:
            rabbitmq.clear_memory_alarm()
        driver.next(Unblocked)
        driver.broker.publish(an_outgoing(3, dead_queue(pool.queue)))
        driver.until(lambda: 3 in {event.token for event in driver.of(Confirmed)}, "the next one is confirmed")
        assert 2 not in {event.token for event in driver.of(Confirmed)}


def test_a_close_during_an_alarm_completes(backend: Backend, pool: PoolConfig, rabbitmq: RabbitNode) -> None:
    with backend.driver(pool) as driver:
        driver.start()
        try:
            _raise_alarm(driver, rabbitmq)
            driver.broker.close(1.0)
            driver.until(lambda: driver.broker.closed, "closed")
        finally:
            rabbitmq.clear_memory_alarm()


# ---- queues -------------------------------------------------------------------------------------------------------


def test_a_deleted_queue_ends_the_subscription_and_is_declared_again(
    backend: Backend, driver: Driver, rabbitmq: RabbitNode
) -> None:
    with rabbitmq.channel() as channel:
        channel.queue_delete(driver.pool.queue)
    assert driver.pool.queue in driver.next(Cancelled).reason

    driver.broker.subscribe()
    driver.next(Subscribed)
    backend.put(driver.pool.queue, b"new life")
    assert driver.next(Delivery).body == b"new life"
    assert driver.of(Disconnected) == []


def test_a_deleted_delay_queue_is_declared_again(driver: Driver, rabbitmq: RabbitNode) -> None:
    def delayed(token: int) -> None:
        driver.broker.publish(an_outgoing(token, "", b"later", delay_s=0.25))

    delayed(1)
    driver.next(Confirmed)
    with rabbitmq.channel() as channel:
        channel.queue_delete(f"{driver.pool.queue}.retry.250")
    delayed(2)
    assert driver.next(Unpublished).token == 2
    delayed(3)

    assert driver.next(Confirmed).token == 3
    assert driver.next(Delivery).body == b"later"


def test_a_message_kept_too_long_ends_the_epoch_but_not_the_connection(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    with running_node(folder, rabbit="{consumer_timeout, 1000}, {channel_tick_interval, 1000}") as node:
        backend = Backend(BrokerConfig(urls=(node.url,)), tmp_path)
        with backend.driver(a_pool(queue_arguments={"x-queue-type": "classic"})) as driver:
            driver.start()
            backend.put(driver.pool.queue, b"slow")
            before = driver.next(Delivery)

            lost = driver.next(Disconnected, timeout_s=90)
            assert "consumer_timeout" in lost.reason
            after = driver.next(Delivery)
            assert after.epoch > before.epoch
            assert driver.broker.connections_opened == 2
            driver.ack(after)
            driver.wait_for_depth(0)
