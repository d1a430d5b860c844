"""Messages as clients other than ours may send them: each is run or dead-lettered, and no connection ends."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

POOL = 'workers = 1\nmax_attempts = 2\nretry_delays = ["100ms"]\n'
BODY = b'{"do": "nothing", "arguments": []}'


def long(data: bytes) -> bytes:
    """A long string, table or array: its length, then its bytes."""
    return struct.pack(">I", len(data)) + data


def short(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def tables(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"F" + long(b"\x01k" + value)
    return b"\x01h" + value


def arrays(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"A" + long(value)
    return b"\x01h" + value


def ours(**values: bytes) -> bytes:
    """Headers that look like those of our own copies."""
    return b"".join(short(f"x-preforkd-{name.replace('_', '-')}".encode()) + value for name, value in values.items())


def text(value: str) -> bytes:
    return b"S" + long(value.encode())


def number(value: int) -> bytes:
    return b"l" + struct.pack(">q", value)


HEADERS: dict[str, bytes] = {
    **{f"tables-{depth}": tables(depth) for depth in (90, 350, 1000, 5000)},
    **{f"arrays-{depth}": arrays(depth) for depth in (90, 350, 1000, 5000)},
    "keys-that-are-no-utf8": short(b"\xff" * 200) + b"V" + short(b"\x80k") + b"V",
    "text-that-is-no-utf8": b"\x01h" + b"S" + long(b"\xff\xfe" * 40),
    "the-same-key-twice": b"\x01h" + number(1) + b"\x01h" + number(2),
    "keys-without-a-letter": short(b"") + number(1),
    "ten-thousand-keys": b"".join(short(b"%d" % key) + b"V" for key in range(10_000)),
    "a-huge-text": b"\x01h" + b"S" + long(b"x" * 100_000),
    "nul-bytes": short(b"a\0b") + b"S" + long(b"\0\0"),
    "times-beyond-all-bounds": b"".join(
        short(b"t%d" % at) + b"T" + struct.pack(">Q", at) for at in (0, 2**31, 2**63 - 1, 2**64 - 1)
    ),
    "decimals": b"\x01a" + b"D\xff" + struct.pack(">i", -1) + b"\x01b" + b"D\x00" + struct.pack(">i", 2**31 - 1),
    "unsigned": b"\x01b" + b"B\xff" + b"\x01u" + b"u\xff\xff" + b"\x01i" + b"i\xff\xff\xff\xff",
    "forged-round-and-attempt": ours(queue=text("{queue}"), round=number(2**62), attempt=number(2**62)),
    **{
        f"forged-numbers-{most}": ours(queue=text("{queue}"), round=number(most), attempt=number(most))
        for most in (2**31 - 1, 2**31, 2**32 - 1, 2**32)
    },
    "forged-kinds": ours(queue=text("{queue}"), round=text("one"), attempt=b"A" + long(b"V"), original=text("x")),
    "forged-original": ours(
        queue=text("{queue}"),
        round=number(1),
        attempt=number(1),
        original=b"F" + long(short(b"headers") + number(1) + short(b"message_id") + b"F" + long(b"")),
    ),
    "forged-exchange": ours(queue=b"A" + long(b""), exchange=number(7), routing_key=b"F" + long(b"")),
    "cc-that-is-no-list-of-ours": short(b"x-death") + text("never") + short(b"x-delivery-count") + text("many"),
}
"""Header tables, as another client would write them. `{queue}` stands for the queue's name."""

DEAD = {name for name in HEADERS if name.startswith(("tables-", "arrays-")) and not name.endswith("-90")}

PROPERTIES: dict[str, pika.BasicProperties] = {
    "id-empty": pika.BasicProperties(message_id=""),
    "id-255-bytes": pika.BasicProperties(message_id="i" * 255),
    "id-with-nul": pika.BasicProperties(message_id="a\0b"),
    "timestamp-highest": pika.BasicProperties(message_id="timestamp-highest", timestamp=2**64 - 1),
    "priority-highest": pika.BasicProperties(message_id="priority-highest", priority=255, delivery_mode=255),
    "type-255-bytes": pika.BasicProperties(message_id="type-255-bytes", type="t" * 255, app_id="\0", user_id="guest"),
}


class RawProperties(pika.BasicProperties):  # type: ignore[misc]  # pika has no types
    """A header table and an id in bytes of our choice."""

    def __init__(self, table: bytes, message_id: bytes) -> None:
        super().__init__()
        self._data = long(table) + short(message_id)

    def encode(self) -> list[bytes]:
        return [struct.pack(">H", self.FLAG_HEADERS | self.FLAG_MESSAGE_ID), self._data]


@pytest.fixture(scope="module")
def under_test(rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitDaemon]:
    with rabbit_daemon(tmp_path_factory.mktemp("confusing"), rabbitmq, POOL) as daemon:
        yield daemon


def unharmed(under_test: RabbitDaemon, publish: Callable[[Any], object]) -> None:
    """What is published is settled, good messages run, and consumer and connections stay the same."""
    wires, good = under_test.wires(), f"good-{len(under_test.marked('begun'))}"
    with under_test.node.channel() as channel:
        publish(channel)
    under_test.send("nothing", message_id=good)
    under_test.wait_done(good)
    eventually(under_test.settled, "everything is settled")
    assert under_test.wires() == wires
    assert [exit for exit in under_test.exits() if exit["kind"] != "worker"] == []
    assert under_test.events("consumer.disconnected") == []
    assert under_test.pool()["state"] == "ok"


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_table_ends_the_consumer(name: str, under_test: RabbitDaemon) -> None:
    queue = under_test.queue.encode()
    table = HEADERS[name].replace(long(b"{queue}"), long(queue))

    def publish(channel: Any) -> None:
        channel.basic_publish("", under_test.queue, BODY, RawProperties(table, name.encode()))

    unharmed(under_test, publish)
    if name not in DEAD:
        assert under_test.events("message.dead", message_id=name) == []
        assert name in [line.split()[0] for line in under_test.marked("begun")] or "forged" in name
        return
    (told,) = under_test.events("message.dead", message_id=name)
    assert told["cause"] == "unreadable"
    assert "nested more than 100 deep" in told["reason"]
    (letter,) = [(headers, body) for headers, body in under_test.dead() if headers.message_id == name]
    assert letter[1] == BODY
    assert letter[0].headers["x-preforkd-unreadable-headers"] == long(table)


@pytest.mark.parametrize("name", PROPERTIES)
def test_no_property_ends_the_consumer(name: str, under_test: RabbitDaemon) -> None:
    before = len(under_test.marked("done"))
    unharmed(under_test, lambda channel: channel.basic_publish("", under_test.queue, BODY, PROPERTIES[name]))
    assert len(under_test.marked("done")) >= before + 1


def test_a_message_in_many_frames_with_unreadable_headers_is_dead_lettered_whole(under_test: RabbitDaemon) -> None:
    """Its frames are put together by pika, not by us."""
    body = BODY + b" " * 400_000

    def publish(channel: Any) -> None:
        channel.basic_publish("", under_test.queue, body, RawProperties(tables(2000), b"in-many-frames"))

    unharmed(under_test, publish)
    eventually(under_test.has("message.dead", message_id="in-many-frames"), "it is dead-lettered")
    assert [found for headers, found in under_test.dead() if headers.message_id == "in-many-frames"] == [body]


def test_a_message_that_its_handler_puts_back_into_its_queue_runs_once_in_each_round(under_test: RabbitDaemon) -> None:
    under_test.send("back_until", 3, message_id="back")
    eventually(lambda: under_test.marked("done").count("back") == 3, "three rounds are done")
    eventually(under_test.settled, "everything is settled")
    assert under_test.runs("back") == [1, 1, 1]
    assert under_test.events("message.duplicate", message_id="back") == []


def test_a_message_that_is_sent_again_while_it_runs_is_acked_with_a_word(under_test: RabbitDaemon) -> None:
    for _ in range(2):
        under_test.send("until", "sent-again", message_id="twice")
    eventually(lambda: under_test.unacked() == 2, "both are delivered")
    under_test.release("sent-again")
    eventually(under_test.settled, "everything is settled")
    (told,) = under_test.events("message.duplicate", message_id="twice")
    assert "while this run of it was under way" in told["message"]
