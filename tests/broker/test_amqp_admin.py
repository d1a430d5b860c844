"""The command line's way into RabbitMQ: publish in bulk, look, move, drop, and facts for `check`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisor.brokers.admin import BrokerAdmin
from supervisor.brokers.amqp.admin import AmqpAdmin
from supervisor.config.schema import BrokerConfig
from supervisor.errors import BrokerUnavailable
from supervisor.messages.message import Properties, Publication
from tests.support.brokers import a_pool
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def config(rabbitmq: RabbitNode) -> BrokerConfig:
    return BrokerConfig(urls=(rabbitmq.url,))


@pytest.fixture
def admin(config: BrokerConfig) -> Iterator[BrokerAdmin]:
    with AmqpAdmin(config) as admin:
        yield admin


@pytest.fixture
def queue(admin: BrokerAdmin) -> Iterator[str]:
    name = a_pool().queue
    admin.ensure_queue(name)
    yield name
    admin.delete_queue(name)


def _messages(queue: str, count: int) -> list[Publication]:
    return [Publication("", queue, Properties(message_id=str(number)), b"%d" % number) for number in range(count)]


def test_messages_are_published_in_a_window_and_counted_as_they_are_confirmed(admin: BrokerAdmin, queue: str) -> None:
    totals: list[int] = []
    report = admin.publish(_messages(queue, 500), 50, totals.append)

    assert (report.sent, report.failed) == (500, [])
    assert totals == list(range(1, 501))
    assert _ready(admin, queue) == 500


def test_unroutable_messages_are_named_by_their_index(admin: BrokerAdmin, queue: str) -> None:
    messages = _messages(queue, 3)
    messages[1] = Publication("", "nowhere", Properties(), b"")
    report = admin.publish(messages, 10, lambda _total: None)

    assert report.sent == 2
    assert [index for index, _reason in report.failed] == [1]
    assert report.absent == {1}
    assert "nowhere" in report.failed[0][1]


@pytest.mark.parametrize(
    "bad",
    [Properties(user_id="outsider"), Properties(headers={"ratio": float("inf")})],
    ids=["refused", "the broker dies of it"],
)
def test_one_message_that_the_broker_does_not_take_fails_alone(admin: BrokerAdmin, queue: str, bad: Properties) -> None:
    messages = _messages(queue, 60)
    messages[20] = Publication("", queue, bad, b"")
    report = admin.publish(messages, 10, lambda _total: None)

    assert (report.sent, [index for index, _reason in report.failed]) == (59, [20])


def test_a_letter_is_moved_over_small_frames(rabbitmq: RabbitNode, queue: str) -> None:
    with AmqpAdmin(BrokerConfig(urls=(f"{rabbitmq.url}?frame_max=4096",))) as narrow:
        stamps = {"x-preforkd-queue": queue, "x-preforkd-round": 2, "x-preforkd-attempt": 1}
        narrow.publish([Publication("", queue, Properties(message_id="m"), b"letter")], 1, lambda _total: None)
        (delivery,) = narrow.take(queue, 1)
        narrow.move(delivery, Publication("", queue, Properties(headers={**stamps, "huge": "x" * 9000}), b"letter"))
        (moved,) = narrow.take(queue, 1)
        narrow.requeue_all()

    assert stamps.items() <= (moved.properties.headers or {}).items()


def test_a_lost_connection_ends_the_run_and_names_the_unconfirmed(
    admin: BrokerAdmin, rabbitmq: RabbitNode, queue: str
) -> None:
    def close(total: int) -> None:
        if total == 1:
            rabbitmq.close_connections_named("preforkd publish")

    report = admin.publish(_messages(queue, 100_000), 10, close)
    assert 1 <= report.sent < 100_000
    assert report.failed[0][0] <= report.sent
    assert "closed by a test" in report.failed[0][1]
    assert _ready(admin, queue) >= report.sent


def test_an_empty_run_reports_nothing(admin: BrokerAdmin) -> None:
    report = admin.publish([], 10, lambda _total: None)

    assert (report.sent, report.failed) == (0, [])


def test_the_depth_of_a_missing_queue_is_none(admin: BrokerAdmin) -> None:
    assert admin.depth("no-such-queue") is None


def test_taken_messages_stay_ours_until_they_are_given_back_in_order(admin: BrokerAdmin, queue: str) -> None:
    admin.publish(_messages(queue, 3), 10, lambda _total: None)
    taken = admin.take(queue, 10)
    assert [delivery.body for delivery in taken] == [b"0", b"1", b"2"]
    assert admin.take(queue, 10) == []

    admin.requeue_all()
    again = admin.take(queue, 10)
    assert [delivery.properties.message_id for delivery in again] == ["0", "1", "2"]
    assert all(delivery.redelivered for delivery in again)
    admin.requeue_all()
    admin.requeue_all()


def test_a_dropped_message_is_gone_and_the_others_return(admin: BrokerAdmin, queue: str) -> None:
    admin.publish(_messages(queue, 2), 10, lambda _total: None)
    first, _second = admin.take(queue, 2)
    admin.drop(first)
    admin.requeue_all()

    assert [delivery.body for delivery in admin.take(queue, 5)] == [b"1"]
    admin.requeue_all()


def test_a_moved_message_is_in_its_new_queue_only(admin: BrokerAdmin, queue: str) -> None:
    target = f"{queue}.target"
    admin.ensure_queue(target)
    admin.publish(_messages(queue, 1), 10, lambda _total: None)
    (delivery,) = admin.take(queue, 1)
    admin.move(delivery, Publication("", target, delivery.properties, delivery.body))

    admin.requeue_all()
    assert admin.take(queue, 1) == []
    assert [moved.body for moved in admin.take(target, 1)] == [b"0"]
    admin.delete_queue(target)


@pytest.mark.parametrize("exchange", ["", "no-such-exchange"])
def test_a_message_that_cannot_be_moved_stays(admin: BrokerAdmin, queue: str, exchange: str) -> None:
    admin.publish(_messages(queue, 2), 10, lambda _total: None)
    first, second = admin.take(queue, 2)
    with pytest.raises(BrokerUnavailable):
        admin.move(first, Publication(exchange, "nowhere", Properties(), b""))
    admin.move(second, Publication("", queue, second.properties, b"moved"))
    admin.requeue_all()

    assert {delivery.body for delivery in admin.take(queue, 5)} == {b"0", b"moved"}
    admin.requeue_all()


def test_deleting_a_missing_queue_is_silent(admin: BrokerAdmin) -> None:
    admin.delete_queue("no-such-queue")


def test_facts_name_the_server_and_what_an_operator_should_know(admin: BrokerAdmin) -> None:
    facts = admin.facts(a_pool().queue)
    assert facts.server.startswith("RabbitMQ 3.")
    assert any("does not exist yet" in remark for remark in facts.remarks)


def test_an_ack_timeout_above_the_brokers_default_is_remarked(rabbitmq: RabbitNode) -> None:
    with AmqpAdmin(BrokerConfig(urls=(rabbitmq.url,), ack_timeout_s=7200.0)) as admin:
        assert any("consumer_timeout" in remark for remark in admin.facts("q").remarks)


def _ready(admin: BrokerAdmin, queue: str) -> int:
    depth = admin.depth(queue)
    assert depth is not None
    return depth.ready
