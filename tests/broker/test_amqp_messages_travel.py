"""Odd messages through a real RabbitMQ: every kind of header, and messages of clients other than ours."""

from __future__ import annotations

import struct
from decimal import Decimal

import pika
import pytest

from supervisor.brokers.base import Confirmed, Delivery
from supervisor.brokers.names import dead_queue
from supervisor.messages.message import Properties
from tests.support.brokers import Driver, an_outgoing
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


class RawProperties(pika.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Headers as another client would write them: bytes of our choice."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self._table = table

    def encode(self) -> list[bytes]:
        return [struct.pack(">H", self.FLAG_HEADERS), struct.pack(">I", len(self._table)), self._table]


FOREIGN = {
    "single": (b"f" + struct.pack(">f", 0.25), 0.25),
    "double": (b"d" + struct.pack(">d", 0.1), 0.1),
    "octet": (b"b\xfb", -5),
    "short": (b"s" + struct.pack(">h", -300), -300),
    "unsigned": (b"i" + struct.pack(">I", 2**32 - 1), 2**32 - 1),
    "decimal": (b"D\x02" + struct.pack(">i", 150), Decimal("1.50")),
    "time": (b"T" + struct.pack(">Q", 1_700_000_000_000), 1_700_000_000_000),
    "latin": (b"S" + struct.pack(">I", 1) + b"\xe9", b"\xe9"),
    "binary": (b"x" + struct.pack(">I", 2) + b"\x00\xff", b"\x00\xff"),
    "void": (b"V", None),
}


def test_headers_of_other_clients_survive_delivery_and_copy(driver: Driver, rabbitmq: RabbitNode) -> None:
    table = b"".join(bytes([len(name)]) + name.encode() + value for name, (value, _) in FOREIGN.items())
    with rabbitmq.channel() as channel:
        channel.basic_publish("", driver.pool.queue, b"foreign", RawProperties(table))
    expected = {name: value for name, (_, value) in FOREIGN.items()}

    delivery = driver.next(Delivery)
    assert delivery.properties.headers == expected
    driver.broker.publish(an_outgoing(1, driver.pool.queue, b"copy", properties=delivery.properties))
    copy = driver.next(Delivery)
    assert copy.body == b"copy"
    assert copy.properties.headers == expected
    assert str(expected["decimal"]) == str((copy.properties.headers or {})["decimal"])


def test_properties_that_are_not_utf8_do_not_end_the_consumer(driver: Driver, rabbitmq: RabbitNode) -> None:
    class Latin(pika.BasicProperties):  # type: ignore[misc]  # pika has no types
        def encode(self) -> list[bytes]:
            return [struct.pack(">H", self.FLAG_CONTENT_TYPE), b"\x01\xe9"]

    with rabbitmq.channel() as channel:
        channel.basic_publish("", driver.pool.queue, b"", Latin())

    assert driver.next(Delivery).properties.content_type == "\\xe9"


def test_a_copy_of_what_cannot_be_said_arrives_with_a_note(driver: Driver) -> None:
    properties = Properties(message_id="m", headers={"huge": 2**80, "kept": 0.5})
    driver.broker.publish(an_outgoing(1, driver.pool.queue, properties=properties))
    driver.next(Confirmed)

    headers = driver.next(Delivery).properties.headers or {}
    assert headers["kept"] == 0.5
    assert "huge" in headers["x-preforkd-note"]


def test_a_retry_copy_carries_its_headers_back(driver: Driver) -> None:
    properties = Properties(message_id="m", headers={"x-preforkd-attempt": 2, "f": 0.1})
    driver.broker.publish(an_outgoing(1, "", b"b", properties=properties, delay_s=0.2))

    headers = driver.next(Delivery).properties.headers or {}
    assert (headers["x-preforkd-attempt"], headers["f"]) == (2, 0.1)


def test_dead_letter_and_delay_queues_are_quorum_queues(driver: Driver, rabbitmq: RabbitNode) -> None:
    wanted = {driver.pool.queue, dead_queue(driver.pool.queue), f"{driver.pool.queue}.retry.250"}
    kinds = rabbitmq.call(
        'lists:flatten(lists:join("|", [io_lib:format("~s=~s", [element(4, amqqueue:get_name(Q)),'
        " amqqueue:get_type(Q)]) || Q <- rabbit_amqqueue:list()]))"
    )

    assert wanted <= {
        line.split("=")[0] for line in kinds.strip('"').split("|") if line.endswith("rabbit_quorum_queue")
    }
