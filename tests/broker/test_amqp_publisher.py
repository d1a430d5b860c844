"""The publishing connection by itself: exactly one fate for each publication, whatever happens to it on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from supervisor.brokers.amqp_connection import targets
from supervisor.brokers.amqp_errors import Trouble
from supervisor.brokers.amqp_publisher import Publisher
from supervisor.clock import monotonic_s
from supervisor.config.schema import BrokerConfig
from supervisor.message import Properties, Publication
from supervisor.reactor import Reactor
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


class Fates:
    """What becomes of publications, as their owner hears it."""

    def __init__(self) -> None:
        self.by_token: dict[int, str] = {}
        self.reasons: dict[int, str] = {}
        self.downs: list[Trouble] = []

    def publisher_ready(self) -> None:
        pass

    def publisher_down(self, trouble: Trouble, retry_in_s: float) -> None:
        self.downs.append(trouble)

    def publisher_blocked(self, reason: str | None) -> None:
        pass

    def confirmed(self, token: int) -> None:
        self._note(token, "confirmed", "")

    def unpublished(self, token: int, reason: str, lost: bool) -> None:
        self._note(token, "lost" if lost else "refused", reason)

    def _note(self, token: int, fate: str, reason: str) -> None:
        assert token not in self.by_token, f"a second fate for {token}"
        self.by_token[token] = fate
        self.reasons[token] = reason


class Desk:
    """A publisher with its reactor, a scratch queue and the fates it reports."""

    def __init__(self, node: RabbitNode) -> None:
        self.node = node
        self.fates = Fates()
        self.reactor = Reactor()
        hosts = targets(BrokerConfig(urls=(node.url,)), "publisher test", 30.0)
        self.publisher = Publisher(self.reactor, hosts, self.fates, timeout_s=20.0)
        self.queue = f"desk-{id(self)}"
        with node.channel() as channel:
            # Its confirms wait for the disk, so that Returns overtake them.
            channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline_s = monotonic_s() + 20.0
        while not condition():
            assert monotonic_s() < deadline_s, f"not within 20 s: {what}; fates: {self.fates.by_token}"
            self.reactor.poll(0.02)

    def publish(self, token: int, exchange: str = "", body: bytes = b"x", **properties: object) -> None:
        publication = Publication(exchange, self.queue, Properties(**properties), body)  # type: ignore[arg-type]
        self.publisher.publish(token, publication)

    def settled(self, *tokens: int) -> dict[int, str]:
        self.until(lambda: set(tokens) <= set(self.fates.by_token), f"fates of {tokens}")
        return self.fates.by_token

    def close(self) -> None:
        self.publisher.close()
        self.until(lambda: self.publisher.dialer.closed, "closed")
        self.reactor.close()
        with self.node.channel() as channel:
            channel.queue_delete(self.queue)


@pytest.fixture
def desk(rabbitmq: RabbitNode) -> Iterator[Desk]:
    desk = Desk(rabbitmq)
    desk.publisher.dialer.dial()
    desk.until(lambda: desk.publisher.connected, "connected")
    yield desk
    desk.close()


def test_what_is_published_before_the_connection_is_up_goes_out_once_it_is(rabbitmq: RabbitNode) -> None:
    desk = Desk(rabbitmq)
    desk.publish(1)
    desk.publisher.dialer.dial()

    assert desk.settled(1) == {1: "confirmed"}
    desk.close()


def test_a_lost_connection_leaves_the_sent_ones_lost_and_comes_back(desk: Desk) -> None:
    desk.publish(1)
    desk.publisher.dialer.cut("a test")
    assert desk.settled(1) == {1: "lost"}

    desk.publish(2)
    assert desk.settled(2)[2] == "confirmed"
    assert len(desk.fates.downs) == 1


def test_an_unknown_exchange_is_refused_and_its_neighbours_are_lost(desk: Desk) -> None:
    desk.publish(1, exchange="no-such-exchange")
    desk.publish(2)

    fates = desk.settled(1, 2)
    assert fates[1] == "refused"
    assert "no-such-exchange" in desk.fates.reasons[1]
    assert fates[2] == "lost"
    desk.publish(3)
    assert desk.settled(3)[3] == "confirmed"
    assert desk.fates.downs == []


def test_a_foreign_user_id_is_refused_and_the_channel_comes_back(desk: Desk) -> None:
    desk.publish(1, user_id="somebody-else")
    assert desk.settled(1) == {1: "refused"}

    desk.publish(2)
    assert desk.settled(2)[2] == "confirmed"


def test_a_full_queue_refuses_by_nack(desk: Desk) -> None:
    desk.queue, first = f"{desk.queue}-full", desk.queue
    with desk.node.channel() as channel:
        channel.queue_delete(first)
        channel.queue_declare(desk.queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    desk.publish(1)
    desk.settled(1)
    desk.publish(2)
    desk.publish(3)

    assert desk.settled(1, 2, 3) == {1: "confirmed", 2: "refused", 3: "refused"}
    assert "nack" in desk.fates.reasons[2]


def test_equal_publications_of_which_some_return_have_as_many_fates_of_each_kind(desk: Desk) -> None:
    missing, present = f"{desk.queue}-gone", desk.queue
    for token in range(1, 41):
        desk.queue = missing if token % 2 else present
        desk.publish(token, headers={"f": 0.1, "n": [1.5, None, b"\xff"]})
    desk.queue = present

    fates = desk.settled(*range(1, 41))
    assert fates == {token: "refused" if token % 2 else "confirmed" for token in range(1, 41)}


def test_a_return_is_matched_by_headers_where_headers_route(desk: Desk) -> None:
    with desk.node.channel() as channel:
        channel.queue_bind(desk.queue, "amq.headers", arguments={"x-match": "all", "wanted": 0.5})
    for token in range(1, 21):
        desk.publish(token, exchange="amq.headers", headers={"wanted": 0.5 if token % 2 else 1.5})

    fates = desk.settled(*range(1, 21))
    assert fates == {token: "confirmed" if token % 2 else "refused" for token in range(1, 21)}


def test_what_was_forgotten_has_no_fate(desk: Desk) -> None:
    desk.publish(1)
    desk.publisher.forget()
    desk.publish(2)

    assert desk.settled(2) == {2: "confirmed"}


def test_headers_beyond_a_frame_do_not_cost_the_connection(desk: Desk) -> None:
    desk.publish(1, headers={"huge": "x" * 500_000, "small": 1})

    assert desk.settled(1) == {1: "confirmed"}
    with desk.node.channel() as channel:
        _method, properties, _body = channel.basic_get(desk.queue, auto_ack=True)
    assert set(properties.headers) - {"x-delivery-count"} == {"small", "x-preforkd-note"}
