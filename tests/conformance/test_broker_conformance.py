"""What every broker must do, whichever it is (supervisor/brokers/base.py): the embedded queue and RabbitMQ alike."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from supervisor.brokers.base import (
    Cancelled,
    Confirmed,
    Connected,
    Delivery,
    Disconnected,
    Held,
    Subscribed,
    Unpublished,
)
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.config.schema import BrokerConfig, PoolConfig
from supervisor.messages.message import Properties
from supervisor.system.clock import monotonic_s
from tests.support.brokers import Backend, Driver, a_pool, an_outgoing


@pytest.fixture(params=["embedded", pytest.param("amqp", marks=pytest.mark.rabbitmq)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "embedded":
        return Backend(BrokerConfig(), tmp_path)
    node = request.getfixturevalue("rabbitmq")
    return Backend(BrokerConfig(urls=(node.url,)), tmp_path)


def _deliver(backend: Backend, driver: Driver, *bodies: bytes) -> list[Delivery]:
    backend.put(driver.pool.queue, *bodies)
    return driver.many(Delivery, len(bodies))


# ---- deliveries ---------------------------------------------------------------------------------------------------


def test_a_start_connects_then_subscribes(driver: Driver) -> None:
    kinds = [type(event) for event in driver.seen if not isinstance(event, Held)]

    assert kinds[:2] == [Connected, Subscribed]


def test_a_message_is_delivered_with_where_it_came_from(backend: Backend, driver: Driver) -> None:
    (delivery,) = _deliver(backend, driver, b"hello")

    assert (delivery.exchange, delivery.routing_key) == ("", driver.pool.queue)
    assert (delivery.body, delivery.redelivered) == (b"hello", False)


def test_messages_come_in_the_order_they_were_published(backend: Backend, driver: Driver) -> None:
    deliveries = _deliver(backend, driver, *(b"%d" % number for number in range(30)))

    assert [int(delivery.body) for delivery in deliveries] == list(range(30))


def test_every_property_survives(backend: Backend, driver: Driver) -> None:
    properties = Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={"a": "b"},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        app_id="app",
        cluster_id="cluster",
    )
    backend.put(driver.pool.queue, b"", properties=properties)

    assert driver.next(Delivery).properties == properties


ODD_HEADERS = {
    "bool": True,
    "int": -5,
    "big": 2**40,
    "float": 0.1,
    "text": "grüße \N{SNOWMAN}",
    "bytes": b"\xff\x00\xfe",
    "when": datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC),
    "none": None,
    "list": [1, "two", 3.5, b"\xff", None, [False]],
    "table": {"nested": {"deep": [{"x": 1.25}]}, "": "empty key"},
    "empty": "",
    "k" * 255: "long key",
}


def test_odd_headers_survive(backend: Backend, driver: Driver) -> None:
    backend.put(driver.pool.queue, b"", properties=Properties(headers=ODD_HEADERS))

    headers = driver.next(Delivery).properties.headers
    assert headers == ODD_HEADERS
    assert headers is not None
    assert {name: type(value) for name, value in headers.items()} == {
        name: type(value) for name, value in ODD_HEADERS.items()
    }


@pytest.mark.parametrize("size", [0, 16 * 1024**2], ids=["empty", "16 MiB"])
def test_bodies_of_all_sizes_survive(backend: Backend, driver: Driver, size: int) -> None:
    body = random.Random(1).randbytes(size)

    (delivery,) = _deliver(backend, driver, body)

    assert delivery.body == body


def test_no_more_than_prefetch_is_out(backend: Backend, pool: PoolConfig) -> None:
    small = a_pool(queue=pool.queue, prefetch=3)
    with backend.driver(small) as driver:
        driver.start()
        backend.put(pool.queue, *[b"x"] * 10)
        first, _, _ = driver.many(Delivery, 3)
        driver.wait_for_depth(7)
        assert len(driver.of(Delivery)) == 3

        driver.ack(first)
        driver.next(Delivery)
        driver.wait_for_depth(6)
        assert len(driver.of(Delivery)) == 4


# ---- settling -----------------------------------------------------------------------------------------------------


def test_deliveries_that_are_set_aside_take_no_room_and_stay_unsettled(backend: Backend, pool: PoolConfig) -> None:
    with backend.driver(msgspec.structs.replace(pool, prefetch=4)) as driver:
        driver.start()
        deliveries: list[Delivery] = []
        for _ in range(5):  # again and again: what was set aside before still is
            deliveries += _deliver(backend, driver, b"one", b"two")
            driver.broker.set_aside([(delivery.epoch, delivery.tag) for delivery in deliveries])
        backend.put(pool.queue, *[b"more"] * 10)
        driver.many(Delivery, 2)
        depth = driver.until(lambda: (found := driver.depth()).ready >= 6 and found, "the window is full")
        assert depth.consumers - depth.former <= 1  # whether the broker counts former subscriptions or not
        assert len(driver.of(Subscribed)) == 1
        assert driver.of(Cancelled) == []
        for delivery in driver.of(Delivery):
            driver.ack(delivery)
        driver.until(lambda: len(driver.of(Delivery)) >= 14, "there is room again")
        assert [delivery for delivery in driver.of(Delivery) if delivery.redelivered] == []


def test_a_subscription_that_was_cancelled_and_has_unsettled_deliveries_is_no_other_consumer(
    backend: Backend, driver: Driver
) -> None:
    (delivery,) = _deliver(backend, driver, b"held")
    driver.broker.cancel()
    driver.next(Cancelled)
    driver.broker.subscribe()
    driver.next(Subscribed)
    depth = driver.depth()
    assert depth.consumers - depth.former <= 1
    driver.ack(delivery)
    driver.until(lambda: (found := driver.depth()).consumers == 1 and found.former == 0, "the former one is gone")


def test_an_acked_message_is_gone_for_good(backend: Backend, driver: Driver) -> None:
    (delivery,) = _deliver(backend, driver, b"once")
    driver.ack(delivery)
    driver.close()

    with backend.admin() as admin:
        depth = admin.depth(driver.pool.queue)
    assert depth is not None
    assert depth.ready == 0


def test_acks_in_any_order_settle_exactly_the_acked(backend: Backend, pool: PoolConfig) -> None:
    wide = a_pool(queue=pool.queue, prefetch=300)
    shuffled = random.Random(7)
    with backend.driver(wide) as driver:
        driver.start()
        deliveries = _deliver(backend, driver, *(b"%d" % number for number in range(200)))
        kept = {int(delivery.body) for delivery in deliveries[::7]}
        shuffled.shuffle(deliveries)
        for position, delivery in enumerate(deliveries):
            if int(delivery.body) not in kept:
                driver.ack(delivery)
            if position % 10 == 0:
                driver.turn()
        driver.close()

    with backend.driver(wide) as after:
        after.start()
        bodies = {int(delivery.body) for delivery in after.many(Delivery, len(kept))}
        assert bodies == kept
        after.wait_for_depth(0)


def test_a_message_given_back_comes_again_marked_redelivered(backend: Backend, driver: Driver) -> None:
    (delivery,) = _deliver(backend, driver, b"again")
    driver.broker.requeue(delivery.epoch, delivery.tag)

    second = driver.next(Delivery)
    assert (second.body, second.redelivered) == (b"again", True)


def test_acks_and_returns_of_one_turn_do_not_touch_each_other(backend: Backend, driver: Driver) -> None:
    first, second, third = _deliver(backend, driver, b"1", b"2", b"3")
    driver.ack(third)
    driver.broker.requeue(second.epoch, second.tag)
    driver.ack(first)

    again = driver.next(Delivery)
    assert again.body == b"2"
    driver.ack(again)
    driver.wait_for_depth(0)


def test_settling_a_tag_twice_does_nothing(backend: Backend, driver: Driver) -> None:
    first, second = _deliver(backend, driver, b"1", b"2")
    driver.ack(first)
    driver.turn()
    driver.ack(first)
    driver.broker.requeue(first.epoch, first.tag)
    driver.turn()
    driver.ack(second)
    driver.wait_for_depth(0)

    assert driver.of(Disconnected) == []


def test_a_close_returns_what_was_not_settled(backend: Backend, pool: PoolConfig, driver: Driver) -> None:
    _deliver(backend, driver, b"unsettled")
    driver.close()

    with backend.driver(pool) as after:
        after.start()
        delivery = after.next(Delivery)
        assert (delivery.body, delivery.redelivered) == (b"unsettled", True)


# ---- epochs -------------------------------------------------------------------------------------------------------


def test_a_lost_connection_ends_the_epoch_and_brings_the_unsettled_back(backend: Backend, driver: Driver) -> None:
    (before,) = _deliver(backend, driver, b"in flight")
    driver.broker.cut()

    lost = driver.next(Disconnected)
    assert lost.reason
    assert lost.retry_in_s >= 0
    after = driver.next(Delivery)
    assert after.epoch > before.epoch
    assert (after.body, after.redelivered) == (b"in flight", True)


def test_a_reconnect_says_connected_and_subscribed_again(driver: Driver) -> None:
    opened = driver.broker.connections_opened
    driver.broker.cut()
    driver.next(Disconnected)
    driver.next(Connected)

    assert driver.next(Subscribed).epoch == driver.of(Subscribed)[-1].epoch
    assert driver.broker.connections_opened > opened


def test_a_tag_of_a_lost_epoch_is_dropped(backend: Backend, driver: Driver) -> None:
    (before,) = _deliver(backend, driver, b"kept")
    driver.broker.cut()
    driver.next(Disconnected)
    driver.next(Delivery)

    driver.ack(before)
    driver.broker.requeue(before.epoch, before.tag)
    driver.turn()
    driver.close()

    with backend.admin() as admin:
        assert [delivery.body for delivery in admin.take(driver.pool.queue, 5)] == [b"kept"]
        admin.requeue_all()


# ---- publishing ---------------------------------------------------------------------------------------------------


def test_a_publication_is_confirmed_and_arrives(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(7, driver.pool.queue, b"copy"))

    assert driver.next(Confirmed).token == 7
    assert driver.next(Delivery).body == b"copy"


def test_a_copy_is_persistent(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, driver.pool.queue))

    assert driver.next(Delivery).properties.delivery_mode == 2


def test_many_publications_of_one_turn_are_all_confirmed(driver: Driver) -> None:
    for token in range(1, 101):
        driver.broker.publish(an_outgoing(token, dead_queue(driver.pool.queue), b"x"))

    assert {event.token for event in driver.many(Confirmed, 100)} == set(range(1, 101))


def test_a_publication_without_a_queue_is_unpublished(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(3, f"{driver.pool.queue}.nowhere"))

    unpublished = driver.next(Unpublished)
    assert unpublished.token == 3
    assert f"{driver.pool.queue}.nowhere" in unpublished.reason


def test_an_unroutable_publication_fails_alone(driver: Driver) -> None:
    queue = dead_queue(driver.pool.queue)
    for token, target in enumerate([queue, "nowhere", queue, "nowhere", queue], start=1):
        driver.broker.publish(an_outgoing(token, target, b"same"))

    assert {event.token for event in driver.many(Confirmed, 3)} == {1, 3, 5}
    assert {event.token for event in driver.many(Unpublished, 2)} == {2, 4}


def test_a_publication_to_an_unknown_exchange_is_unpublished_and_the_next_one_works(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, "key", exchange="no-such-exchange"))
    assert driver.next(Unpublished).token == 1

    driver.broker.publish(an_outgoing(2, dead_queue(driver.pool.queue)))
    assert driver.next(Confirmed).token == 2
    assert driver.of(Disconnected) == []


@pytest.mark.parametrize("queue_of", [dead_queue, parked_queue])
def test_a_queue_for_copies_that_is_deleted_is_declared_again_for_a_later_copy(
    queue_of: Callable[[str], str], backend: Backend, driver: Driver
) -> None:
    queue = queue_of(driver.pool.queue)
    driver.broker.publish(an_outgoing(1, queue))
    driver.next(Confirmed)
    with backend.admin() as admin:
        admin.delete_queue(queue)
    token = itertools.count(2)

    def taken() -> bool:
        """Refused ones are tried again, as the consumer does it."""
        driver.broker.publish(an_outgoing(next(token), queue))
        fate = driver.until(lambda: driver._take(Confirmed) or driver._take(Unpublished), "a fate")[0]
        return isinstance(fate, Confirmed)

    driver.until(taken, "a copy is taken")
    with backend.admin() as admin:
        assert admin.depth(queue).ready == 1


def test_dead_and_parked_queues_are_there_from_the_start(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, dead_queue(driver.pool.queue)))
    driver.broker.publish(an_outgoing(2, parked_queue(driver.pool.queue)))

    assert {event.token for event in driver.many(Confirmed, 2)} == {1, 2}


@pytest.mark.parametrize("delay_s", [0.25, 0.4], ids=["configured", "first used"])
def test_a_delayed_copy_comes_back_after_its_delay(driver: Driver, delay_s: float) -> None:
    published_s = monotonic_s()
    driver.broker.publish(
        an_outgoing(1, "ignored", b"later", delay_s=delay_s, properties=Properties(message_id="m", headers={"k": 0.5}))
    )

    driver.next(Confirmed)
    delivery = driver.next(Delivery)
    assert monotonic_s() - published_s >= delay_s
    assert (delivery.body, delivery.properties.message_id) == (b"later", "m")
    assert delivery.properties.headers is not None
    assert delivery.properties.headers["k"] == 0.5
    driver.ack(delivery)


# ---- subscription and close ---------------------------------------------------------------------------------------


def test_a_cancel_stops_deliveries_and_keeps_what_was_delivered(backend: Backend, driver: Driver) -> None:
    (mine,) = _deliver(backend, driver, b"mine")
    driver.broker.cancel()
    assert driver.next(Cancelled).reason == ""

    backend.put(driver.pool.queue, b"later")
    driver.wait_for_depth(1)
    assert len(driver.of(Delivery)) == 1

    driver.ack(mine)
    driver.broker.subscribe()
    driver.next(Subscribed)
    delivery = driver.next(Delivery)
    assert (delivery.body, delivery.redelivered) == (b"later", False)


def test_a_cancel_during_an_outage_holds_after_the_reconnect(backend: Backend, driver: Driver) -> None:
    driver.broker.cut()
    driver.next(Disconnected)
    driver.broker.cancel()
    driver.next(Cancelled)
    driver.next(Connected)
    backend.put(driver.pool.queue, b"waits")

    driver.wait_for_depth(1)
    assert driver.of(Delivery) == []
    driver.broker.subscribe()
    assert driver.next(Delivery).body == b"waits"


def test_a_probe_tells_depth_and_consumers(backend: Backend, driver: Driver) -> None:
    driver.broker.cancel()
    driver.next(Cancelled)
    backend.put(driver.pool.queue, b"1", b"2")

    driver.wait_for_depth(2)
    driver.broker.subscribe()
    driver.many(Delivery, 2)
    driver.wait_for_depth(0)
    assert driver.depth().consumers == 1


def test_the_last_acks_before_a_close_count(backend: Backend, driver: Driver) -> None:
    deliveries = _deliver(backend, driver, *[b"x"] * 20)
    for delivery in deliveries:
        driver.ack(delivery)
    driver.broker.close(5.0)
    driver.until(lambda: driver.broker.closed, "closed")

    with backend.admin() as admin:
        assert admin.take(driver.pool.queue, 1) == []


def test_a_close_during_an_outage_completes(driver: Driver) -> None:
    driver.broker.cut()
    driver.next(Disconnected)
    driver.broker.close(5.0)

    driver.until(lambda: driver.broker.closed, "closed")


def test_a_broker_that_was_never_started_closes(backend: Backend) -> None:
    with backend.driver(a_pool()) as driver:
        driver.broker.close(1.0)
        driver.until(lambda: driver.broker.closed, "closed")


def test_a_healthy_connection_is_not_silent(driver: Driver) -> None:
    driver.depth()

    assert 0.0 <= driver.broker.silent_s < 5.0
