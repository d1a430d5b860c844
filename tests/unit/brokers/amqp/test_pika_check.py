"""A pika that is not as the faster way of receiving needs it is noticed at the start, and costs speed only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pika
import pika.channel
import pika.connection
import pika.data
import pytest

from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.pika_check import receiving_way
from supervisor.brokers.amqp.receiving import ReceivingConnection
from supervisor.errors import BrokerRefused


@pytest.fixture(autouse=True)
def _nothing_is_cached() -> Iterator[None]:
    receiving_way.cache_clear()
    yield
    receiving_way.cache_clear()
    tables.install()


def test_the_installed_pika_takes_the_faster_way() -> None:
    assert receiving_way() == (ReceivingConnection, "")


def buffer_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def received(self: Any, data: bytes) -> None:
        self._rest = getattr(self, "_rest", b"") + data
        while self._rest:
            size, frame = pika.connection.frame.decode_frame(self._rest)
            if not frame:
                return
            self._rest = self._rest[size:]
            self._process_frame(frame)

    monkeypatch.setattr(pika.connection.Connection, "_on_data_available", received)


def bytes_arrive_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a new name; what ReceivingConnection overrides is never called."""
    former = pika.connection.Connection._on_data_available
    monkeypatch.setattr(pika.connection.Connection, "_received", former, raising=False)
    monkeypatch.setattr(pika.SelectConnection, "_proto_data_received", lambda self, data: former(self, data))


def consumers_have_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    former = pika.channel.Channel.__getattribute__

    def get(self: Any, name: str) -> Any:
        if name == "_consumers" and not _of_pika():
            raise AttributeError(name)
        return former(self, name)

    monkeypatch.setattr(pika.channel.Channel, "__getattribute__", get)


def _of_pika() -> bool:
    return sys._getframe(2).f_globals["__name__"].startswith("pika.")


def frames_are_not_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    former = pika.connection.Connection._process_frame

    def process(self: Any, frame: Any) -> None:
        self.frames_received += 1
        former(self, frame)

    monkeypatch.setattr(pika.connection.Connection, "_process_frame", process)


@pytest.mark.parametrize("change", [buffer_has_another_name, consumers_have_another_name, frames_are_not_counted_alike])
def test_another_pika_takes_its_own_way(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    way = receiving_way()
    assert way.connection is pika.SelectConnection
    assert f"pika {pika.__version__} is not as the faster way" in way.reason


@pytest.mark.parametrize("name", ["_handle_content_frame", "_on_deliver"])
def test_a_function_that_an_instrumentation_has_replaced_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    former = getattr(pika.channel.Channel, name)
    monkeypatch.setattr(pika.channel.Channel, name, lambda *arguments: former(*arguments))

    way = receiving_way()

    assert way.connection is pika.SelectConnection
    assert f"Channel.{name} was replaced at run time" in way.reason


def test_bytes_that_arrive_under_another_name_are_received_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_arrive_elsewhere(monkeypatch)
    assert receiving_way() == (ReceivingConnection, ""), "all go to pika, and nothing differs"


def test_a_pika_whose_own_way_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "install", lambda: None)  # another pika may decode tables elsewhere
    monkeypatch.setattr(pika.data, "decode_table", lambda encoded, offset: ({}, len(encoded)))
    with pytest.raises(BrokerRefused, match="does not deliver messages as preforkd needs them"):
        receiving_way()
