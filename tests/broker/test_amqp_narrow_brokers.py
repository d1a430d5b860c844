"""Brokers that allow little, or less than before: channels, frames, alarms, rights and passwords taken away."""

from __future__ import annotations

from uuid import uuid4

import pytest

from supervisor.brokers.base import (
    Blocked,
    Cancelled,
    Confirmed,
    Delivery,
    Disconnected,
    Fatal,
    Subscribed,
    Unpublished,
    Unsafe,
)
from supervisor.brokers.names import dead_queue
from supervisor.config.schema import BrokerConfig, PoolConfig
from tests.support.brokers import Backend, an_outgoing
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


def with_options(node: RabbitNode, options: str) -> BrokerConfig:
    """The node, with options of the connection."""
    return BrokerConfig(urls=(f"{node.url}?{options}",))


@pytest.fixture
def user(rabbitmq: RabbitNode) -> str:
    """A user of the test's own, who may do everything; the password is pw."""
    name = f"u-{uuid4().hex[:6]}"
    rabbitmq.add_user(name, "pw", (".*", ".*", ".*"))
    return name


def as_user(node: RabbitNode, user: str) -> BrokerConfig:
    return BrokerConfig(urls=(f"amqp://{user}:pw@127.0.0.1:{node.port}/%2F",))


@pytest.mark.parametrize("channels", [1, 3])
def test_too_few_channels_are_refused_by_number(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig, channels: int
) -> None:
    with backend.driver(pool, with_options(rabbitmq, f"channel_max={channels}")) as driver:
        driver.broker.start()

        reason = driver.next(Fatal).reason
        assert f"allows {channels} channel(s)" in reason
        assert "channel_max" in reason


def test_few_channels_are_enough(backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig) -> None:
    with backend.driver(pool, with_options(rabbitmq, "channel_max=4")) as driver:
        driver.start()
        driver.broker.publish(an_outgoing(1, pool.queue, b"x", delay_s=0.25))
        assert driver.next(Confirmed).token == 1
        assert driver.next(Delivery).body == b"x"
        assert driver.depth().consumers == 1


def test_small_frames_carry_large_bodies_both_ways(backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig) -> None:
    body = bytes(range(256)) * 200
    with backend.driver(pool, with_options(rabbitmq, "frame_max=4096")) as driver:
        driver.start()
        driver.broker.publish(an_outgoing(1, pool.queue, body))
        assert driver.next(Confirmed).token == 1
        assert driver.next(Delivery).body == body


def test_an_alarm_at_the_start_holds_up_copies_and_not_consumption(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig
) -> None:
    with backend.driver(pool) as former:
        former.start()
    backend.put(pool.queue, b"waiting")
    rabbitmq.set_memory_alarm()
    try:
        with backend.driver(pool) as driver:
            driver.start()
            assert driver.next(Delivery).body == b"waiting"
            driver.broker.publish(an_outgoing(1, dead_queue(pool.queue)))
            driver.next(Blocked)
            assert driver.of(Confirmed) == []
            rabbitmq.clear_memory_alarm()
            assert driver.next(Confirmed).token == 1
    finally:
        rabbitmq.clear_memory_alarm()


def test_a_right_taken_away_refuses_copies_and_given_back_takes_them(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig, user: str
) -> None:
    with backend.driver(pool, as_user(rabbitmq, user)) as driver:
        driver.start()
        rabbitmq.set_permissions(user, (".*", "^q-", ".*"))
        rabbitmq.close_connections_named("preforkd publisher p")  # what a channel was allowed it may go on doing
        driver.until(lambda: driver.broker.connections_opened == 3, "the publishing connection is back")

        driver.broker.publish(an_outgoing(1, dead_queue(pool.queue)))
        refused = driver.next(Unpublished)
        assert (refused.token, refused.lost) == (1, False)
        assert "right" in refused.reason

        rabbitmq.set_permissions(user, (".*", ".*", ".*"))
        driver.broker.publish(an_outgoing(2, dead_queue(pool.queue)))
        assert driver.next(Confirmed).token == 2
        assert driver.of(Disconnected) == []
        assert driver.of(Fatal) == []


def test_a_password_changed_under_way_is_a_refusal_at_the_next_connection(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig, user: str
) -> None:
    with backend.driver(pool, as_user(rabbitmq, user)) as driver:
        driver.start()
        rabbitmq.call(f'rabbit_auth_backend_internal:change_password(<<"{user}">>, <<"other">>, <<"test">>)')
        driver.broker.cut()

        assert "login" in driver.next(Fatal).reason


def test_a_virtual_host_deleted_under_way_is_named(backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig) -> None:
    name = f"v-{uuid4().hex[:6]}"
    rabbitmq.add_vhost(name)
    config = BrokerConfig(urls=(f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/{name}",))
    with backend.driver(pool, config) as driver:
        driver.start()
        rabbitmq.call(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>)')

        assert name in driver.next(Fatal).reason


def test_a_queue_deleted_and_made_otherwise_under_way_is_told(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig
) -> None:
    with backend.driver(pool) as driver:
        driver.start()
        with rabbitmq.channel() as channel:
            channel.queue_delete(pool.queue)
            driver.next(Cancelled)
            channel.queue_declare(pool.queue, durable=True, arguments={"x-max-length": 5})
            driver.broker.subscribe()
            driver.many(Subscribed, 1)
        assert "beyond 5 messages" in driver.next(Unsafe).remarks[0]
