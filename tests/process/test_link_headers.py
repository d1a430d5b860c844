"""Headers keep their types between consumer and worker, in both directions, and through the whole product."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import ConsumerFrame, Publish, Run, RunId, WorkerFrame
from supervisor.messages.message import Properties, Publication
from tests.support.daemon import daemon
from tests.support.waiting import eventually

RUN = RunId(b"k" * 24, 1, 1)

ODD = {
    "decimal": Decimal("-12.345"),
    "moment": datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    "bytes": b"\xff\x00",
    "float": 0.1,
    "whole float": 2.0,
    "none": None,
    "nested": {"list": [1, True, Decimal("0.5"), {"deep": datetime(1970, 1, 1, tzinfo=UTC)}]},
}

Ends = tuple[Channel[WorkerFrame], Channel[ConsumerFrame]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The consumer's end of a link, and the worker's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, WorkerFrame), Channel(theirs, ConsumerFrame)


def test_a_worker_is_given_the_headers_that_the_consumer_had(ends: Ends) -> None:
    consumer, worker = ends
    run = Run(RUN, "m", Properties(headers=ODD), b"body", "", "email", False, False)

    consumer.send(run)
    consumer.flush()

    (arrived,) = worker.receive()
    assert arrived == run
    assert isinstance(arrived, Run)
    assert kinds(arrived.properties.headers) == kinds(ODD)


def test_the_consumer_is_given_the_headers_that_a_handler_published(ends: Ends) -> None:
    consumer, worker = ends
    naive = datetime(2024, 1, 1, 12)
    publications = [Publication("", "audit", Properties(headers=table), b"") for table in (ODD, {"at": naive}, None)]

    worker.send(Publish(RUN, publications))
    worker.flush()

    (arrived,) = consumer.receive()
    assert isinstance(arrived, Publish)
    odd, moment, none = [publication.properties.headers for publication in arrived.publications]
    assert (odd, kinds(odd)) == (ODD, kinds(ODD))
    assert moment == {"at": naive.replace(tzinfo=UTC)}
    assert none is None


def test_a_damaged_header_closes_the_channel_and_nothing_else(ends: Ends) -> None:
    consumer, worker = ends
    worker.send(Publish(RUN, [Publication("", "audit", Properties(headers={"price": Decimal("1.5")}), b"")]))
    sent = bytearray(worker._outgoing)
    sent[sent.index(b"1.5") : sent.index(b"1.5") + 3] = b"x.y"
    worker.socket.sendall(sent)

    with pytest.raises(ChannelClosed, match="extension"):
        consumer.receive()


def test_headers_pass_the_queue_a_handler_and_its_publish_as_they_are(tmp_path: Path) -> None:
    handler = (
        "def run(message):\n    message.publish(message.body, routing_key='email.dead', headers=message.headers)\n"
    )
    (tmp_path / "echo.py").write_text(handler)
    with daemon(tmp_path, "workers = 1", start=False) as running:
        text = running.config_path.read_text().replace("daemon_handlers:run", "echo:run")
        running.config_path.write_text(text.replace('path = ["', f'path = ["{tmp_path}", "'))
        running.start()
        with open_admin(BrokerConfig(), str(running.state_dir)) as admin:
            message = Publication("", "email", Properties(message_id="m", headers=ODD), b"")
            assert admin.publish([message], 10, lambda total: None).sent == 1
            (echo,) = eventually(lambda: admin.take("email.dead", 1), "the handler's message")
            admin.requeue_all()
    assert echo.properties.headers == ODD
    assert kinds(echo.properties.headers) == kinds(ODD)


def kinds(value: Any) -> Any:
    """The types in a header table."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return type(value)
