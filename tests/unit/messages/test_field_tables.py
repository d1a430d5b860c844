"""Facts about headers as msgpack: nothing is lost, and equal tables are equal bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from supervisor.messages.field_tables import pack_canonical, pack_properties, packable_properties, unpack_properties
from supervisor.messages.message import Properties

ODD = {
    "decimal": Decimal("-12.345"),
    "moment": datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    "bytes": b"\xff\x00",
    "text": "grüße",
    "float": 0.1,
    "big": 2**63 - 1,
    "small": -(2**63),
    "true": True,
    "none": None,
    "nested": {"list": [1, 1.0, Decimal("0.5"), {"deep": datetime(1970, 1, 1, tzinfo=UTC)}]},
}


def test_every_kind_of_header_value_comes_back_as_it_was() -> None:
    back = unpack_properties(pack_properties(Properties(headers=ODD)))
    assert back.headers == ODD
    assert _types(back.headers) == _types(ODD)


def test_all_properties_come_back() -> None:
    values = {name: name for name in Properties.__struct_fields__}
    properties = Properties(
        **{**values, "headers": {"a": 1}, "delivery_mode": 2, "priority": 9, "timestamp": 1_700_000_000}  # type: ignore[arg-type]
    )
    assert unpack_properties(pack_properties(properties)) == properties


@pytest.mark.parametrize("headers", [None, {}])
def test_no_table_and_an_empty_table_stay_apart(headers: dict[str, Any] | None) -> None:
    assert unpack_properties(pack_properties(Properties(headers=headers))).headers == headers


def test_packing_leaves_the_original_untouched() -> None:
    table = {"price": Decimal("1.5")}
    pack_properties(Properties(headers=table))
    assert table == {"price": Decimal("1.5")}


def test_equal_tables_in_another_order_are_equal_bytes() -> None:
    assert pack_canonical({"a": {"x": 1, "y": 2}, "b": 3}) == pack_canonical({"b": 3, "a": {"y": 2, "x": 1}})


@pytest.mark.parametrize(("code", "data"), [(9, b""), (1, b"no number"), (1, b"\xff")])
def test_bytes_of_another_program_are_refused(code: int, data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        unpack_properties(msgspec.msgpack.encode([None, None, {"a": msgspec.msgpack.Ext(code, data)}]))


def test_properties_without_headers_are_not_even_copied() -> None:
    properties = Properties(message_id="m")
    assert packable_properties(properties) is properties


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _types(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)
