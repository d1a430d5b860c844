"""What a program gives to the client, and the publication that comes of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from supervisor.brokers.copy_headers import EXPIRES
from supervisor.brokers.names import DELAY_LADDER_S
from supervisor.client.errors import InvalidMessage, for_programs, told
from supervisor.client.request import Request, json_body, name_of, properties_of
from supervisor.messages.message import Properties, Publication


def made(body: Any = b"x", expires_s: float | None = None, exchange: str = "", **fields: Any) -> Publication:
    return Request("orders", body, exchange, Properties(**fields), expires_s).publication(now_s=1_700_000_000.25)


def test_a_message_is_persistent_with_an_id_and_a_time() -> None:
    publication = made("é")
    properties = publication.properties

    assert publication.body == "é".encode()
    assert re.fullmatch("[0-9a-f]{32}", properties.message_id or "")
    assert (properties.delivery_mode, properties.timestamp) == (2, 1_700_000_000)
    assert made().properties.message_id != properties.message_id


def test_what_the_program_gives_is_kept_but_for_the_delivery_mode() -> None:
    properties = made(message_id="order-1", timestamp=7, delivery_mode=1, headers={"a": 1}, priority=3).properties

    assert properties == Properties(message_id="order-1", timestamp=7, delivery_mode=2, headers={"a": 1}, priority=3)


def test_an_empty_id_is_none() -> None:
    assert made(message_id="").properties.message_id


def test_an_expiry_is_whole_seconds_since_the_epoch_rounded_up() -> None:
    assert made(expires_s=1.5, headers={"a": 1}).properties.headers == {"a": 1, EXPIRES: 1_700_000_002}


@pytest.mark.parametrize("expires_s", [0, -1.0, float("nan"), float("inf")])
def test_an_expiry_that_is_no_time_is_refused(expires_s: float) -> None:
    with pytest.raises(InvalidMessage, match="expires_s"):
        made(expires_s=expires_s)


@pytest.mark.parametrize(("delay_s", "timestamp"), [(0.0, 1_700_000_000), (0.75, 1_700_000_001), (59.0, 1_700_000_060)])
def test_the_time_of_a_delayed_message_is_the_end_of_its_delay(delay_s: float, timestamp: int) -> None:
    publication = Request("orders", b"", delay_s=delay_s).in_delay_queue().publication(1_700_000_000.25)

    assert publication.properties.timestamp == timestamp


def test_a_message_that_expires_before_its_delay_is_over_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="with expires_s = 60 it expires before its delay of 60 s"):
        Request("orders", b"", expires_s=60.0, delay_s=45.0).in_delay_queue().publication(0.0)
    Request("orders", b"", expires_s=61.0, delay_s=45.0).in_delay_queue().publication(0.0)


def test_a_clock_before_1970_gives_a_timestamp_that_amqp_has() -> None:
    publication = Request("orders", b"").publication(now_s=-5.0)

    assert publication.properties.timestamp == 0


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"headers": {"a": float("nan")}}, "not finite"),
        ({"message_id": "x" * 256}, "message_id: 256 bytes"),
        ({"priority": 256}, "priority"),
        ({"headers": {"huge": "x" * 200_000}}, "one frame does not hold"),
        ({"exchange": "x" * 300}, "exchange: 300 bytes"),
    ],
)
def test_what_cannot_be_sent_is_told_before_it_is_taken(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidMessage, match=words) as refused:
        made(**fields)

    assert isinstance(refused.value, ValueError)
    assert not refused.value.maybe_published


def test_a_body_of_another_type_is_a_type_error_that_names_the_way() -> None:
    with pytest.raises(TypeError, match="not dict; send_later takes objects"):
        made({"number": 7})


def test_a_message_without_queue_and_exchange_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="neither"):
        Request("", b"").publication(now_s=0.0)


@pytest.mark.parametrize("delay_s", [-0.1, DELAY_LADDER_S[-1] + 1, float("nan"), float("inf")])
def test_a_delay_that_no_delay_queue_has_is_refused(delay_s: float) -> None:
    with pytest.raises(InvalidMessage, match=r"from 0 to 604800 s \(7 days\)"):
        Request("orders", b"", delay_s=delay_s).in_delay_queue()


def test_a_delay_is_for_a_queue_and_without_an_expiration_that_would_end_it() -> None:
    assert Request("orders", b"", delay_s=59.0).in_delay_queue().delay_s == 60.0
    without = Request("key", b"", "events", Properties(expiration="1"))
    assert without.in_delay_queue() == without
    with pytest.raises(InvalidMessage, match="leave out exchange"):
        Request("key", b"", "events", delay_s=60.0).in_delay_queue()
    with pytest.raises(InvalidMessage, match="use expires_s"):
        Request("orders", b"", properties=Properties(expiration="1000"), delay_s=60.0).in_delay_queue()


def test_single_fields_replace_those_of_properties_and_an_id_of_its_own_comes_last() -> None:
    given = Properties(message_id="m1", priority=1)

    assert properties_of(given, None, {"priority": 2}) == Properties(message_id="m1", priority=2)
    assert properties_of(given, "m2", {}) == Properties(message_id="m2", priority=1)
    assert properties_of(None, None, {}) == Properties()
    with pytest.raises(TypeError, match="color"):
        properties_of(given, None, {"color": "red"})


def test_json_is_utf_8_and_refuses_what_json_does_not_have() -> None:
    assert json.loads(json_body({"ü": [1, None]})) == {"ü": [1, None]}
    for value in ({1, 2}, float("nan"), b"x"):
        with pytest.raises(InvalidMessage, match="not JSON"):
            json_body(value)


def test_a_text_names_the_message_where_it_is_and_no_configuration_of_the_daemon() -> None:
    text = told(name_of(made(message_id="order-1")), "check user and password in [broker] url", "order-1", True)

    assert text == (
        "message 'order-1' for queue 'orders': check user and password in the client's URL; it may be at the broker or "
        "not: publish it again with message_id='order-1', and it runs once"
    )
    assert name_of(made(message_id="m", exchange="e")) == "message 'm' for exchange 'e', routing key 'orders'"
    assert for_programs("[broker] url (not a URL): x; check the URL and the files of [broker.tls]") == (
        "the URL (not a URL): x; check the client's URL and its `tls`"
    )
