"""Facts about the embedded queue that AMQP does not share: one file, several processes, a disk that can be full."""

from __future__ import annotations

import random
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.brokers.base import (
    Cancelled,
    Confirmed,
    Connected,
    Delivery,
    Disconnected,
    Fatal,
    Subscribed,
    Unpublished,
)
from supervisor.brokers.embedded import broker, notification, store
from supervisor.brokers.embedded.store import Store
from supervisor.config.schema import BrokerConfig
from supervisor.system.clock import monotonic_s, wall_s
from tests.support.brokers import Backend, Driver, a_pool, an_outgoing
from tests.support.children import snippet
from tests.support.disks import SmallDisk, small_disk

CONSUMER = """
import sys
from contextlib import closing
from pathlib import Path
from supervisor.brokers.base import Confirmed, Delivery
from supervisor.config.schema import BrokerConfig
from tests.support.brokers import Backend, a_pool, an_outgoing

verb, queue, prefetch = sys.argv[2:5]
with Backend(BrokerConfig(), Path(sys.argv[1])).driver(a_pool(queue=queue, prefetch=int(prefetch))) as driver:
    driver.start()
    print("ready", flush=True)
    token = 0
    while verb == "receive":
        print(driver.next(Delivery).body.decode(), flush=True)
    while verb == "publish":
        token += 1
        driver.broker.publish(an_outgoing(token, queue + ".dead", str(token).encode()))
        print(driver.next(Confirmed).token, flush=True)
"""


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    return Backend(BrokerConfig(), tmp_path)


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


# ---- processes ----------------------------------------------------------------------------------------------------


def test_after_kill_9_exactly_the_delivered_come_back_as_redelivered(backend: Backend) -> None:
    pool = a_pool()
    with backend.admin() as admin:
        admin.ensure_queue(pool.queue)
    backend.put(pool.queue, b"1", b"2", b"3", b"4")
    with snippet(CONSUMER, str(backend.state_dir), "receive", pool.queue, "2") as consumer:
        assert [consumer.line() for _ in range(3)] == ["ready", "1", "2"]
        consumer.kill()

    with backend.driver(pool) as driver:
        driver.start()
        found = [(delivery.body, delivery.redelivered) for delivery in driver.many(Delivery, 4)]
    assert found == [(b"1", True), (b"2", True), (b"3", False), (b"4", False)]


def test_every_confirmed_publication_survives_kill_9(backend: Backend) -> None:
    for seed in range(4):
        pool = a_pool()
        with snippet(CONSUMER, str(backend.state_dir), "publish", pool.queue, "1") as publisher:
            assert publisher.line() == "ready"
            confirmed = [int(publisher.line()) for _ in range(random.Random(seed).randrange(1, 40))]
            confirmed += [int(line) for line in publisher.kill()]
        with backend.admin() as admin:
            kept = [int(body) for body in bodies(admin.take(f"{pool.queue}.dead", 10_000))]
        assert kept[: len(confirmed)] == confirmed
        assert len(kept) <= len(confirmed) + 1  # it may have died between commit and telling


def test_a_second_consumer_of_a_queue_is_refused_with_the_pid_of_the_first(backend: Backend) -> None:
    pool = a_pool()
    with snippet(CONSUMER, str(backend.state_dir), "receive", pool.queue, "1") as first:
        assert first.line() == "ready"
        with backend.driver(pool) as second:
            second.broker.start()
            assert f"already has a consumer (pid {first.pid})" in second.next(Fatal).reason


def test_two_queues_of_one_file_have_a_consumer_each(backend: Backend, driver: Driver) -> None:
    with backend.driver(a_pool()) as other:
        other.start()
        backend.put(other.pool.queue, b"theirs")
        backend.put(driver.pool.queue, b"ours")
        assert other.next(Delivery).body == b"theirs"
        assert driver.next(Delivery).body == b"ours"


# ---- waking up ----------------------------------------------------------------------------------------------------


def test_a_publisher_in_another_connection_notifies_the_consumer(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_LOOK_EVERY_S", 3600.0)
    with backend.driver(a_pool()) as driver:
        driver.start()
        driver.turn()
        backend.put(driver.pool.queue, b"heard")
        assert driver.next(Delivery).body == b"heard"


def test_a_copy_from_one_pool_to_the_queue_of_another_notifies_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_LOOK_EVERY_S", 3600.0)
    with backend.driver(a_pool()) as sender, backend.driver(a_pool()) as receiver:
        sender.start()
        receiver.start()
        receiver.turn()
        sender.broker.publish(an_outgoing(1, receiver.pool.queue, b"heard"))
        sender.next(Confirmed)
        assert receiver.next(Delivery).body == b"heard"


def test_where_the_path_is_too_long_for_a_socket_new_messages_are_found_by_looking(tmp_path: Path) -> None:
    state_dir = tmp_path / ("d" * 120)
    state_dir.mkdir()
    backend = Backend(BrokerConfig(), state_dir)
    with backend.driver(a_pool()) as driver:
        driver.start()
        driver.turn()
        backend.put(driver.pool.queue, b"found")
        assert driver.next(Delivery).body == b"found"
        assert list(state_dir.glob("**/*.bell")) == []


def test_without_a_free_descriptor_there_is_no_socket_for_notifications(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "lowest").open("w") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno(), hard))
        try:
            assert notification.listen(tmp_path / "queue.bell") is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_notification_socket_that_a_dead_consumer_left_is_replaced(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_LOOK_EVERY_S", 3600.0)
    pool = a_pool()
    with snippet(CONSUMER, str(backend.state_dir), "receive", pool.queue, "1") as dead:
        assert dead.line() == "ready"
        dead.kill()
    assert len(list(backend.state_dir.glob("**/*.bell"))) == 1
    backend.put(pool.queue, b"1")  # no consumer hears it, which does no harm
    with backend.driver(pool) as driver:
        driver.start()
        driver.next(Delivery)
        backend.put(pool.queue, b"2")
        assert driver.next(Delivery).body == b"2"
    assert list(backend.state_dir.glob("**/*.bell")) == []


# ---- order --------------------------------------------------------------------------------------------------------


def test_a_message_given_back_keeps_its_place(backend: Backend) -> None:
    with backend.driver(a_pool(prefetch=2)) as driver:
        driver.start()
        backend.put(driver.pool.queue, b"1", b"2", b"3", b"4")
        first, second = driver.many(Delivery, 2)
        driver.broker.requeue(first.epoch, first.tag)
        driver.ack(second)
        assert bodies(driver.many(Delivery, 2)) == [b"1", b"3"]


def test_a_delayed_message_comes_when_it_is_ready_among_others(backend: Backend, driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, "", b"delayed", delay_s=0.25))
    driver.broker.publish(an_outgoing(2, driver.pool.queue, b"before"))
    assert driver.next(Delivery).body == b"before"
    delayed = driver.next(Delivery)
    assert (delayed.body, delayed.redelivered, delayed.routing_key) == (b"delayed", False, driver.pool.queue)
    assert driver.of(Confirmed) == [Confirmed(1), Confirmed(2)]


def test_a_delayed_message_survives_a_reconnect(backend: Backend, driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, "", b"delayed", delay_s=0.5))
    driver.next(Confirmed)
    driver.broker.cut()
    driver.next(Disconnected)
    delayed = driver.next(Delivery)
    assert (delayed.epoch, delayed.redelivered) == (2, False)


def test_a_clock_that_steps_back_hides_no_message(
    backend: Backend, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put(driver.pool.queue, b"before")
    driver.next(Delivery)
    monkeypatch.setattr(store, "wall_s", lambda: wall_s() - 3600.0)
    backend.put(driver.pool.queue, b"after")
    after = driver.next(Delivery)
    assert (after.body, after.redelivered) == (b"after", False)


@pytest.mark.parametrize("by_s", [-3600.0, 864_000.0])
def test_a_retry_waits_its_delay_whatever_the_clock_is_set_to(
    backend: Backend, driver: Driver, monkeypatch: pytest.MonkeyPatch, by_s: float
) -> None:
    driver.broker.publish(an_outgoing(1, "", b"delayed", delay_s=0.5))
    driver.next(Confirmed)
    begun_s = monotonic_s()
    monkeypatch.setattr(store, "wall_s", lambda: wall_s() + by_s)
    driver.broker.cut()  # opened again: the file knows its time
    driver.next(Disconnected)
    assert driver.next(Delivery).body == b"delayed"
    assert 0.3 < monotonic_s() - begun_s < 10.0


def test_a_boot_in_1970_holds_up_and_repeats_nothing(
    backend: Backend, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the file goes on where it was; what was delivered counts as delivered, what is new as new."""
    backend.put(driver.pool.queue, b"seen")
    driver.next(Delivery)
    driver.broker.publish(an_outgoing(1, driver.pool.queue, b"unseen"))
    driver.next(Confirmed)
    driver.next(Delivery)
    driver.broker.cut()
    monkeypatch.setattr(store, "boot_id", lambda: "another boot")
    monkeypatch.setattr(store, "wall_s", lambda: 30.0)
    backend.put(driver.pool.queue, b"new")
    again = [driver.next(Delivery) for _ in range(3)]
    assert [(each.body, each.redelivered) for each in again] == [(b"seen", True), (b"unseen", True), (b"new", False)]


# ---- settling -----------------------------------------------------------------------------------------------------


def test_an_ack_that_was_not_flushed_is_lost_with_its_epoch(backend: Backend, driver: Driver) -> None:
    backend.put(driver.pool.queue, b"x")
    first = driver.next(Delivery)
    driver.ack(first)
    driver.broker.cut()
    again = driver.next(Delivery)
    assert (again.body, again.redelivered) == (b"x", True)


def test_a_publication_without_a_fate_is_told_as_lost_when_its_epoch_ends(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(5, driver.pool.queue))
    driver.broker.cut()
    unpublished = driver.next(Unpublished)
    assert (unpublished.token, unpublished.lost) == (5, True)


def test_a_publication_during_an_outage_is_told_as_lost(driver: Driver) -> None:
    driver.broker.cut()
    driver.next(Disconnected)
    driver.broker.publish(an_outgoing(5, driver.pool.queue))
    assert driver.next(Unpublished).lost


def test_a_publication_to_an_exchange_names_the_exchange(driver: Driver) -> None:
    driver.broker.publish(an_outgoing(1, "k", exchange="mail"))
    refused = driver.next(Unpublished)
    assert "no such exchange 'mail'" in refused.reason
    assert not refused.lost


# ---- queues -------------------------------------------------------------------------------------------------------


def test_a_queue_that_is_deleted_under_its_consumer_cancels_it_and_a_new_subscription_makes_it_again(
    backend: Backend, driver: Driver
) -> None:
    with backend.admin() as admin:
        admin.delete_queue(driver.pool.queue)
    assert "deleted" in driver.next(Cancelled).reason
    driver.broker.subscribe()
    driver.next(Subscribed)
    backend.put(driver.pool.queue, b"new")
    assert driver.next(Delivery).body == b"new"


def test_a_queue_that_must_exist_and_does_not_is_fatal(backend: Backend) -> None:
    with backend.driver(a_pool(declare=False)) as driver:
        driver.broker.start()
        assert "declare = true" in driver.next(Fatal).reason


# ---- the file -----------------------------------------------------------------------------------------------------


def test_a_file_that_a_backup_holds_is_used_again_once_it_is_let_go(
    backend: Backend, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BUSY_S", 0.05)
    with closing(sqlite3.connect(backend.state_dir / "embedded.db", isolation_level=None)) as backup:
        driver.broker.cut()
        driver.next(Disconnected)
        backup.execute("BEGIN IMMEDIATE")
        assert "another program holds it" in driver.next(Disconnected).reason
    driver.next(Connected)
    backend.put(driver.pool.queue, b"later")
    assert driver.next(Delivery).body == b"later"


def test_a_damaged_file_is_fatal_and_says_what_to_do(backend: Backend) -> None:
    (backend.state_dir / "embedded.db").write_bytes(b"no database" * 1000)
    with backend.driver(a_pool()) as driver:
        driver.broker.start()
        assert "move it away" in driver.next(Fatal).reason


def test_a_file_of_another_version_is_fatal(backend: Backend) -> None:
    Store(backend.state_dir).close()
    with sqlite3.connect(backend.state_dir / "embedded.db") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with backend.driver(a_pool()) as driver:
        driver.broker.start()
        assert "schema 9" in driver.next(Fatal).reason


def test_a_missing_state_directory_is_tried_again_until_it_is_there(tmp_path: Path) -> None:
    backend = Backend(BrokerConfig(), tmp_path / "later")
    with backend.driver(a_pool()) as driver:
        driver.broker.start()
        assert "later" in driver.next(Disconnected).reason
        backend.state_dir.mkdir()
        driver.next(Connected)
        assert driver.broker.connections_opened == 1


def test_bodies_are_for_the_daemons_user_only(backend: Backend, driver: Driver) -> None:
    assert (backend.state_dir / "embedded.db").stat().st_mode & 0o077 == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.mark.root
def test_a_full_disk_ends_the_epoch_confirms_nothing_and_heals(disk: SmallDisk) -> None:
    backend = Backend(BrokerConfig(), disk.path)
    with backend.driver(a_pool()) as driver:
        driver.start()
        backend.put(driver.pool.queue, b"in flight")
        driver.next(Delivery)
        disk.fill()
        dead = f"{driver.pool.queue}.dead"
        driver.broker.publish(an_outgoing(1, dead, b"x" * 500_000))
        assert driver.next(Unpublished).lost
        assert "the disk is full" in driver.next(Disconnected).reason
        assert driver.of(Confirmed) == []

        disk.free()
        driver.broker.publish(an_outgoing(2, dead, b"x"))
        again = driver.until(
            lambda: [d for d in driver.of(Delivery) if d.epoch > 1], "the message comes back once the disk has room"
        )[0]
        assert (again.body, again.redelivered) == (b"in flight", True)
        driver.ack(again)
        driver.broker.publish(an_outgoing(3, dead, b"y"))
        assert driver.next(Confirmed).token == 3
    with backend.admin() as admin:
        assert bodies(admin.take(dead, 10))[-1] == b"y"
