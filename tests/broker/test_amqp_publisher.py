"""The publishing connection by itself: exactly one fate for each publication, whatever happens to it on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.publishing import AsyncClient, connected_desk
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def desk(rabbitmq: RabbitNode) -> Iterator[AsyncClient]:
    with connected_desk(rabbitmq) as desk:
        yield desk


def test_what_is_published_before_the_connection_is_up_goes_out_once_it_is(rabbitmq: RabbitNode) -> None:
    desk = AsyncClient(rabbitmq)
    desk.publish(1)
    desk.dial()

    assert desk.settled(1) == {1: "confirmed"}
    desk.close()


def test_a_lost_connection_leaves_the_sent_ones_lost_and_comes_back(desk: AsyncClient) -> None:
    desk.publish(1)
    desk.publisher.dialer.cut("a test")
    assert desk.settled(1) == {1: "lost"}
    assert desk.fates.absent == set()

    desk.publish(2)
    assert desk.settled(2)[2] == "confirmed"
    assert len(desk.fates.downs) == 1


def test_an_unknown_exchange_is_refused_and_its_neighbours_are_published(desk: AsyncClient) -> None:
    desk.publish(1, exchange="no-such-exchange")
    desk.publish(2)

    fates = desk.settled(1, 2)
    assert fates[1] == "refused"
    assert "no-such-exchange" in desk.fates.reasons[1]
    assert fates[2] == "confirmed"
    desk.publish(3)
    assert desk.settled(3)[3] == "confirmed"
    assert desk.fates.downs == []
    assert desk.fates.absent == {1}


def test_another_users_id_is_refused_and_the_channel_comes_back(desk: AsyncClient) -> None:
    desk.publish(1, user_id="another-user")
    assert desk.settled(1) == {1: "refused"}

    desk.publish(2)
    assert desk.settled(2)[2] == "confirmed"


def test_a_full_queue_refuses_by_nack(desk: AsyncClient) -> None:
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
    assert desk.fates.absent == set(), "a nack says nothing about where the message is"


def test_equal_publications_of_which_some_return_have_as_many_fates_of_each_kind(desk: AsyncClient) -> None:
    missing, present = f"{desk.queue}-gone", desk.queue
    for token in range(1, 41):
        desk.queue = missing if token % 2 else present
        desk.publish(token, headers={"f": 0.1, "n": [1.5, None, b"\xff"]})
    desk.queue = present

    fates = desk.settled(*range(1, 41))
    assert fates == {token: "refused" if token % 2 else "confirmed" for token in range(1, 41)}
    assert desk.fates.absent == set(range(1, 41, 2))


def test_a_return_is_matched_by_headers_where_headers_route(desk: AsyncClient) -> None:
    with desk.node.channel() as channel:
        channel.queue_bind(desk.queue, "amq.headers", arguments={"x-match": "all", "wanted": 0.5})
    for token in range(1, 21):
        desk.publish(token, exchange="amq.headers", headers={"wanted": 0.5 if token % 2 else 1.5})

    fates = desk.settled(*range(1, 21))
    assert fates == {token: "confirmed" if token % 2 else "refused" for token in range(1, 21)}


def test_headers_beyond_a_frame_do_not_cost_the_connection(desk: AsyncClient) -> None:
    desk.publish(1, headers={"huge": "x" * 500_000, "small": 1})

    assert desk.settled(1) == {1: "confirmed"}
    with desk.node.channel() as channel:
        _method, properties, _body = channel.basic_get(desk.queue, auto_ack=True)
    assert set(properties.headers) - {"x-delivery-count"} == {"small", "x-preforkd-note"}
