"""One publication that RabbitMQ refuses, or dies of, fails alone: its neighbours are published, and it is not sent on.

On RabbitMQ 3.10, and with PREFORKD_SOAK on 4.0 as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests.support.publishing import AsyncClient, connected_desk
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def desk(node: RabbitNode) -> Iterator[AsyncClient]:
    with connected_desk(node) as desk:
        yield desk


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an infinite float in a header": ({"headers": {"ratio": float("inf")}}, "541"),
    "a float deep in a header that is no number": ({"headers": {"a": [{"b": float("nan")}]}}, "541"),
    "another user's id": ({"user_id": "another-user"}, "user_id"),
    "an exchange that is not there": ({"exchange": "no-such-exchange"}, "no-such-exchange"),
    "an exchange for the broker only": ({"exchange": "amq.rabbitmq.trace"}, "amq.rabbitmq.trace"),
    "an expiration in words": ({"expiration": "soon"}, "expiration"),
    "a CC header that is no list": ({"headers": {"CC": "other"}}, "CC"),
}


KNOWN_RISKS = {"another user's id", "an exchange that is not there", "an exchange for the broker only"}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_broker_refuses_fails_alone_and_its_neighbours_are_published(desk: AsyncClient, case: str) -> None:
    properties, told = REFUSED[case]
    for token in range(1, 21):
        desk.publish(token, body=b"%d" % token, **(properties if token == 11 else {}))

    fates = desk.settled(*range(1, 21))

    assert fates == {token: "refused" if token == 11 else "confirmed" for token in range(1, 21)}
    assert told in desk.fates.reasons[11]
    found = Counter(desk.bodies())
    assert set(found) == {b"%d" % token for token in range(1, 21) if token != 11}
    assert max(found.values()) <= (1 if case in KNOWN_RISKS else 2)


def test_several_bad_ones_among_many_are_each_found(desk: AsyncClient) -> None:
    bad: dict[int, dict[str, Any]] = {
        3: {"headers": {"f": float("nan")}},
        4: {"user_id": "x"},
        17: {"exchange": "missing"},
        18: {"exchange": "missing"},
        19: {"headers": {"f": float("-inf")}},
    }
    for token in range(1, 31):
        desk.publish(token, **bad.get(token, {}))

    fates = desk.settled(*range(1, 31))

    assert fates == {token: "refused" if token in bad else "confirmed" for token in range(1, 31)}


def test_what_comes_while_a_suspect_is_tried_is_published_behind_it(desk: AsyncClient) -> None:
    desk.publish(1, headers={"f": float("inf")})
    desk.until(lambda: desk.fates.downs, "the connection was lost")
    desk.publish(2)

    assert desk.settled(1, 2) == {1: "refused", 2: "confirmed"}
    assert len(desk.fates.downs) == 2


def test_a_successor_that_is_handed_the_same_publications_finds_the_bad_one_by_itself(node: RabbitNode) -> None:
    for killed in (True, False):
        with connected_desk(node) as desk:
            for token in range(1, 8):
                desk.publish(token, **({"headers": {"f": float("inf")}} if token == 4 else {}))
            if killed:
                desk.publisher.dialer.cut("the consumer was killed")
            else:
                fates = desk.settled(*range(1, 8))
    assert fates == {token: "refused" if token == 4 else "confirmed" for token in range(1, 8)}


def test_connections_lost_for_other_reasons_blame_no_publication(desk: AsyncClient) -> None:
    for _loss in range(2):
        desk.until(lambda: desk.publisher.connected, "connected")
        desk.publish(1)
        desk.publisher.dialer.cut("a flapping network")
        assert desk.settled(1) == {1: "lost"}
        desk.fates.by_token.clear()

    desk.publish(1)  # alone by now
    desk.publish(2)
    assert desk.settled(1, 2) == {1: "confirmed", 2: "confirmed"}


def test_a_publication_that_pika_cannot_write_is_refused_and_the_channel_lives(desk: AsyncClient) -> None:
    desk.publish(1, key="k" * 300)
    desk.publish(2)

    assert desk.settled(1, 2) == {1: "refused", 2: "confirmed"}
    assert "cannot be sent" in desk.fates.reasons[1]
    assert desk.fates.downs == []


def test_headers_beyond_a_small_frame_are_refused_by_size_and_cost_no_connection(node: RabbitNode) -> None:
    with connected_desk(node, frame_max=4096) as desk:
        desk.publish(1, headers={"huge": "x" * 5000})
        desk.publish(2, body=b"y" * 50_000)

        assert desk.settled(1, 2) == {1: "refused", 2: "confirmed"}
        assert "frame" in desk.fates.reasons[1]
        assert desk.fates.downs == []


def test_a_copy_whose_headers_are_beyond_a_small_frame_comes_about_with_a_note(node: RabbitNode) -> None:
    with connected_desk(node, frame_max=4096) as desk:
        desk.publish(1, headers={"x-preforkd-queue": "q", "huge": "x" * 5000})
        assert desk.settled(1) == {1: "confirmed"}

        with node.channel() as channel:
            _method, properties, _body = channel.basic_get(desk.queue, auto_ack=True)
        assert "huge" in properties.headers["x-preforkd-note"]


# ---- returns ------------------------------------------------------------------------------------------------------


def test_a_return_whose_headers_the_broker_has_changed_is_recognised(desk: AsyncClient) -> None:
    for token in range(1, 11):
        gone = token % 2
        desk.publish(token, key="nowhere" if gone else None, message_id=str(token), headers={"BCC": ["x"], "n": token})

    fates = desk.settled(*range(1, 11))
    assert fates == {token: "refused" if token % 2 else "confirmed" for token in range(1, 11)}


def test_of_returned_ones_that_look_alike_none_counts_as_published(desk: AsyncClient) -> None:
    desk.publish(1, key="nowhere", headers={"BCC": [desk.queue]})
    desk.publish(2, key="nowhere", headers={"BCC": ["nowhere, too"]})

    assert desk.settled(1, 2)[2] == "refused"


def test_an_rpc_client_gets_one_reply_and_it_counts_as_published(desk: AsyncClient, node: RabbitNode) -> None:
    with pika.BlockingConnection(pika.URLParameters(node.url)) as client:
        channel = client.channel()
        replies: list[bytes] = []
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *got: replies.append(got[3]), auto_ack=True)
        channel.basic_publish("", desk.queue, b"question", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        with node.channel() as server:  # the question was not confirmed: it may still be on its way
            got = eventually(lambda: _taken(server, desk.queue), "the question is in the queue")
        properties = got[1]

        for token in range(1, 6):
            desk.publish(token, key=properties.reply_to if token == 1 else None, body=b"answer")
        assert desk.settled(*range(1, 6)) == dict.fromkeys(range(1, 6), "confirmed")
        eventually(lambda: client.process_data_events(time_limit=0.1) or replies, "the client has its reply")
        client.process_data_events(time_limit=0.1)
        assert replies == [b"answer"]


def _taken(channel: pika.adapters.blocking_connection.BlockingChannel, queue: str) -> tuple[Any, ...] | None:
    """A message, taken out of a queue; None while there is none."""
    found: tuple[Any, ...] = channel.basic_get(queue, auto_ack=True)
    return found if found[0] is not None else None


def test_a_reply_to_an_rpc_client_that_has_gone_counts_as_published(desk: AsyncClient) -> None:
    desk.publish(1, key="amq.rabbitmq.reply-to.gone")

    assert desk.settled(1) == {1: "confirmed"}


# ---- routes that change under way ---------------------------------------------------------------------------------


def test_an_exchange_deleted_during_work_fails_only_what_is_for_it(desk: AsyncClient, node: RabbitNode) -> None:
    exchange = f"x-{desk.queue}"
    with node.channel() as channel:
        channel.exchange_declare(exchange, "fanout")
        channel.queue_bind(desk.queue, exchange)
        for token in range(1, 61):
            desk.publish(token, exchange=exchange if token % 2 else "")
            if token == 30:
                desk.reactor.poll(0.0)
                channel.exchange_delete(exchange)

    fates = desk.settled(*range(1, 61))
    assert {fates[token] for token in range(2, 61, 2)} == {"confirmed"}
    assert {fates[token] for token in range(1, 61, 2)} <= {"confirmed", "refused"}
    assert fates[59] == "refused"


def test_what_an_alternate_exchange_takes_counts_as_published(desk: AsyncClient, node: RabbitNode) -> None:
    exchange, other = f"x-{desk.queue}", f"y-{desk.queue}"
    with node.channel() as channel:
        channel.exchange_declare(other, "fanout")
        channel.exchange_declare(exchange, "direct", arguments={"alternate-exchange": other})
        channel.queue_bind(desk.queue, other)
        desk.publish(1, exchange=exchange, key="no-queue")

        assert desk.settled(1) == {1: "confirmed"}
        channel.exchange_delete(exchange)
        channel.exchange_delete(other)


def test_a_reply_to_a_queue_that_has_gone_with_its_client_is_refused_as_unroutable(
    desk: AsyncClient, node: RabbitNode
) -> None:
    with node.channel() as client:
        queue = client.queue_declare("", exclusive=True).method.queue
    desk.publish(1, key=queue)

    assert desk.settled(1) == {1: "refused"}
    assert "no queue" in desk.fates.reasons[1]
    assert desk.fates.downs == []


def test_a_queue_that_refuses_by_nack_costs_its_neighbours_nothing(desk: AsyncClient, node: RabbitNode) -> None:
    full = f"{desk.queue}-full"
    with node.channel() as channel:
        channel.queue_declare(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.basic_publish("", full, b"first")
        for token in range(1, 21):
            desk.publish(token, key=full if token % 2 else None)

        fates = desk.settled(*range(1, 21))
        assert {fates[token] for token in range(2, 21, 2)} == {"confirmed"}
        assert [fates[token] for token in range(3, 21, 2)] == ["refused"] * 9
        channel.queue_delete(full)
