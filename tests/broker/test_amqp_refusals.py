"""What RabbitMQ refuses, and what a user is told: final refusals are Fatal and name the remedy, the rest retries."""

from __future__ import annotations

import pytest

from supervisor.brokers import open_admin
from supervisor.brokers.base import Confirmed, Connected, Delivery, Disconnected, Fatal, Subscribed
from supervisor.brokers.names import dead_queue
from supervisor.config.schema import Binding, BrokerConfig, PoolConfig, TlsConfig
from supervisor.errors import BrokerRefused, BrokerUnavailable
from supervisor.messages.message import Properties
from tests.support.brokers import Backend, a_pool, an_outgoing
from tests.support.rabbitmq import RabbitNode, free_port

pytestmark = pytest.mark.rabbitmq


def _refusal(backend: Backend, pool: PoolConfig, url: str = "", **config: object) -> str:
    """What `start` is refused with."""
    broker = BrokerConfig(urls=(url,), **config) if url else backend.config  # type: ignore[arg-type]
    with backend.driver(pool, broker) as driver:
        driver.broker.start()
        return driver.next(Fatal).reason


def _as(node: RabbitNode, user: str, password: str, vhost: str = "%2F") -> str:
    return f"amqp://{user}:{password}@127.0.0.1:{node.port}/{vhost}"


# ---- final refusals -----------------------------------------------------------------------------------------------


def test_a_wrong_password_is_fatal_and_never_shown(backend: Backend, rabbitmq: RabbitNode) -> None:
    reason = _refusal(backend, a_pool(), _as(rabbitmq, "guest", "s3cret-typo"))

    assert "login" in reason
    assert "s3cret-typo" not in reason


def test_an_unknown_virtual_host_is_fatal(backend: Backend, rabbitmq: RabbitNode) -> None:
    reason = _refusal(backend, a_pool(), _as(rabbitmq, "guest", "guest", "nowhere"))

    assert "virtual host" in reason
    assert "nowhere" in reason


def test_a_virtual_host_without_rights_is_fatal(backend: Backend, rabbitmq: RabbitNode) -> None:
    rabbitmq.add_user("outsider", "pw", None)

    assert "virtual host" in _refusal(backend, a_pool(), _as(rabbitmq, "outsider", "pw"))


def test_a_missing_right_to_declare_is_fatal_at_the_start(backend: Backend, rabbitmq: RabbitNode) -> None:
    rabbitmq.add_user("reader", "pw", ("^$", ".*", ".*"))
    pool = a_pool()

    reason = _refusal(backend, pool, _as(rabbitmq, "reader", "pw"))
    assert pool.queue in reason
    assert "right" in reason


def test_a_missing_queue_is_fatal_where_it_must_not_be_declared(backend: Backend) -> None:
    pool = a_pool(declare=False)

    reason = _refusal(backend, pool)
    assert pool.queue in reason
    assert "declare = false" in reason


def test_a_queue_that_exists_is_used_as_it_is(backend: Backend, rabbitmq: RabbitNode) -> None:
    pool = a_pool(declare=False)
    with rabbitmq.channel() as channel:
        channel.queue_declare(pool.queue, durable=True, arguments={"x-max-length": 50})
    with backend.driver(pool) as driver:
        driver.start()
        driver.broker.publish(an_outgoing(1, dead_queue(pool.queue)))
        driver.next(Confirmed)
    backend.clean_up(pool)


def test_a_stream_is_fatal_before_anything_is_consumed(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig
) -> None:
    with rabbitmq.channel() as channel:
        channel.queue_declare(pool.queue, durable=True, arguments={"x-queue-type": "stream"})

    for declare in (True, False):
        reason = _refusal(backend, a_pool(queue=pool.queue, declare=declare))
        assert "stream" in reason
        assert pool.queue in reason


def test_a_stream_that_cannot_be_asked_about_is_fatal_before_any_message_runs(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig
) -> None:
    with rabbitmq.channel() as channel:
        channel.queue_declare(pool.queue, durable=True, arguments={"x-queue-type": "stream"})
    rabbitmq.add_user("asks-not", "pw", (r"\.(dead|parked|retry\..*)$", ".*", ".*"))
    with backend.driver(pool, BrokerConfig(urls=(_as(rabbitmq, "asks-not", "pw"),))) as driver:
        driver.start()
        backend.put(pool.queue, b"1", b"2")

        assert "stream" in driver.next(Fatal).reason
        assert driver.of(Delivery) == []


def test_a_message_that_only_looks_like_a_streams_is_delivered(backend: Backend, pool: PoolConfig) -> None:
    with backend.driver(pool) as driver:
        driver.start()
        backend.put(pool.queue, b"odd", properties=Properties(headers={"x-stream-offset": 5}))

        delivery = driver.next(Delivery)
        assert delivery.body == b"odd"
        driver.ack(delivery)
        driver.wait_for_depth(0)
        assert driver.of(Fatal) == []


def test_a_binding_to_a_missing_exchange_is_fatal(backend: Backend, pool: PoolConfig) -> None:
    bound = a_pool(queue=pool.queue, bindings=(Binding("no-such-exchange", "#"),))

    assert "no-such-exchange" in _refusal(backend, bound)


def test_a_url_that_is_none_is_fatal(backend: Backend) -> None:
    assert "[broker] url" in _refusal(backend, a_pool(), "http://guest:secret@localhost")


def test_a_refused_broker_object_closes(backend: Backend, rabbitmq: RabbitNode) -> None:
    with backend.driver(a_pool(), BrokerConfig(urls=(_as(rabbitmq, "guest", "wrong"),))) as driver:
        driver.broker.start()
        driver.next(Fatal)
        driver.broker.close(5.0)

        driver.until(lambda: driver.broker.closed, "closed")
        assert len(driver.of(Fatal)) == 1


# ---- what waiting heals -------------------------------------------------------------------------------------------


def test_an_unreachable_host_is_tried_again(backend: Backend) -> None:
    unreachable = BrokerConfig(urls=(f"amqp://guest:guest@127.0.0.1:{free_port()}/%2F",))
    with backend.driver(a_pool(), unreachable) as driver:
        driver.broker.start()
        first, second = driver.many(Disconnected, 2)

        assert "nothing listens" in first.reason
        assert first.retry_in_s < second.retry_in_s
        assert driver.of(Fatal) == []


@pytest.mark.parametrize("dead", ["amqp://guest:guest@127.0.0.1:{port}/", "amqp://guest:guest@no-such-host.invalid/"])
def test_a_dead_host_in_front_of_the_list_is_passed_by(
    backend: Backend, rabbitmq: RabbitNode, pool: PoolConfig, dead: str
) -> None:
    rotated = BrokerConfig(urls=(dead.format(port=free_port()), rabbitmq.url))
    with backend.driver(pool, rotated) as driver:
        driver.broker.start()

        driver.next(Disconnected)
        assert str(rabbitmq.port) in driver.next(Connected).host


def test_the_host_that_users_see_has_no_password(backend: Backend, pool: PoolConfig) -> None:
    with backend.driver(pool) as driver:
        driver.broker.start()

        assert "guest" not in driver.next(Connected).host


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_an_exclusive_consumer_waits_for_the_other_to_leave(backend: Backend, pool: PoolConfig, kind: str) -> None:
    alone = a_pool(queue=pool.queue, exclusive=True, queue_arguments={"x-queue-type": kind})
    with backend.driver(alone) as first, backend.driver(alone) as second:
        first.start()
        second.broker.start()

        assert "exclusive" in second.next(Disconnected).reason
        first.close()
        second.next(Subscribed)
        assert second.of(Fatal) == []


# ---- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_is_told_the_same(rabbitmq: RabbitNode) -> None:
    with pytest.raises(BrokerRefused, match="login"):
        open_admin(BrokerConfig(urls=(_as(rabbitmq, "guest", "wrong"),)), "")
    with pytest.raises(BrokerUnavailable, match="nothing listens"):
        open_admin(BrokerConfig(urls=(f"amqp://127.0.0.1:{free_port()}/",)), "")


def test_a_tls_file_that_is_missing_is_named(rabbitmq: RabbitNode) -> None:
    config = BrokerConfig(urls=(f"amqps://127.0.0.1:{rabbitmq.port}/",), tls=TlsConfig(ca_file="missing-ca.pem"))

    with pytest.raises(BrokerRefused, match=r"broker\.tls"):
        open_admin(config, "")
