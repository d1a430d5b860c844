"""Facts about message keys and content digests: what makes two messages one, and what never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.messages.identity import content_digest, message_key
from supervisor.messages.message import Properties

MOMENT = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)


def header_values() -> st.SearchStrategy[Any]:
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.decimals(allow_nan=False, allow_infinity=False, places=3),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.datetimes(timezones=st.just(UTC)),
    )
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    )


def headers() -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=6), header_values(), max_size=4)


def digest_of(**headers: Any) -> bytes:
    return content_digest(Properties(headers=headers), b"body")


def reversed_tables(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_tables(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [reversed_tables(item) for item in value]
    return value


# ---- keys ---------------------------------------------------------------------------------------------------------


def test_a_key_is_16_bytes_of_the_id_then_8_of_the_digest() -> None:
    key = message_key("/", "email", "id-1", b"0123456789abcdef")
    assert len(key) == 24
    assert key[16:] == b"01234567"


def test_keys_of_one_id_share_their_first_16_bytes_whatever_the_content() -> None:
    one, other = (message_key("/", "email", "id-1", digest) for digest in (b"\0" * 16, b"\xff" * 16))
    assert one != other
    assert one[:16] == other[:16]


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_different_scopes_or_ids_never_run_together(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (message_key(*one, b"") == message_key(*other, b"")) == (one == other)


def test_moving_a_letter_between_vhost_queue_and_id_makes_another_key() -> None:
    split = [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("", "ab", "cd"), ("abcd", "", "")]
    assert len({message_key(*scope, b"") for scope in split}) == len(split)


def test_the_key_of_a_message_is_the_same_in_every_release() -> None:
    key = message_key("/", "email", "6f1c", content_digest(Properties(headers={"n": 1}), b"body"))
    assert key.hex() == "12478ffc5603456fd824c62e62d9d960843cbcddb67ea1d0"


# ---- digests: what differs ----------------------------------------------------------------------------------------


@given(headers())
def test_the_order_of_headers_does_not_matter_at_any_depth(table: dict[str, Any]) -> None:
    assert digest_of(**table) == digest_of(**reversed_tables(table))


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, "1", b"1", Decimal(1), [1], {"1": 1}, None),
        (0, False, 0.0, -0.0, "", b"", [], {}, None),
        ("2024", b"2024", MOMENT, MOMENT.isoformat(), MOMENT + timedelta(seconds=1), MOMENT.timestamp()),
        ([1, [2]], [[1], 2], [1, 2], {"a": [1, 2]}, {"a": {"b": 1}}),
    ],
)
def test_values_of_different_types_or_nesting_differ(values: tuple[Any, ...]) -> None:
    assert len({digest_of(h=value) for value in values}) == len(values)


def test_an_absent_header_differs_from_one_that_is_none() -> None:
    assert digest_of() != digest_of(h=None)


def test_a_header_name_and_its_value_do_not_run_together() -> None:
    assert digest_of(ab="c") != digest_of(a="bc")


@pytest.mark.parametrize(
    "change",
    [
        {"content_type": "text/plain"},
        {"content_encoding": "gzip"},
        {"priority": 3},
        {"correlation_id": "c"},
        {"reply_to": "r"},
        {"type": "t"},
        {"app_id": "a"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_property_that_makes_another_message_counts(change: dict[str, Any]) -> None:
    assert content_digest(Properties(**change), b"x") != content_digest(Properties(), b"x")


def test_the_same_text_in_another_property_differs() -> None:
    assert content_digest(Properties(type="a"), b"") != content_digest(Properties(app_id="a"), b"")


def test_the_body_counts_and_does_not_run_into_the_properties() -> None:
    assert content_digest(Properties(), b"a") != content_digest(Properties(), b"b")
    assert content_digest(Properties(app_id="x"), b"") != content_digest(Properties(), b"x")


def test_a_message_sent_again_by_a_doubtful_publisher_is_the_same_message() -> None:
    """A publisher that lost its connection before the confirm sends the same id and content with a new time stamp."""
    assert content_digest(Properties(timestamp=1), b"x") == content_digest(Properties(timestamp=2), b"x")


# ---- digests: what a copy may change ------------------------------------------------------------------------------


@given(headers(), st.binary(max_size=64))
def test_an_original_and_its_retry_copy_are_equal(table: dict[str, Any], body: bytes) -> None:
    original = Properties(
        content_type="application/json",
        headers={**table, "CC": ["elsewhere"], "BCC": ["hidden"]},
        delivery_mode=1,
        priority=4,
        expiration="60000",
        timestamp=1_700_000_000,
        user_id="guest",
        cluster_id="c",
    )
    copy = msgspec.structs.replace(
        original,
        headers={
            **table,
            "x-preforkd-queue": "email",
            "x-preforkd-round": 1,
            "x-preforkd-attempt": 2,
            "x-death": [{"count": 1, "queue": "email.retry.1000", "time": MOMENT}],
            "x-first-death-queue": "email.retry.1000",
            "x-last-death-reason": "expired",
            "x-delivery-count": 1,
            "x-acquired-count": 1,
        },
        delivery_mode=2,
        expiration=None,
        user_id=None,
        cluster_id=None,
        message_id="given-to-the-first-copy",
    )
    assert content_digest(original, body) == content_digest(copy, body)


@pytest.mark.parametrize("original", [None, {}], ids=["no table", "empty table"])
def test_a_copy_of_a_message_without_headers_is_equal(original: dict[str, Any] | None) -> None:
    copied = Properties(headers={"x-preforkd-attempt": 2, "x-death": []})
    assert content_digest(Properties(headers=original), b"x") == content_digest(copied, b"x")


def test_a_header_that_only_looks_like_ours_counts() -> None:
    assert digest_of(**{"x-preforkdish": 1}) != digest_of()
    assert digest_of(**{"x-deathly": 1}) != digest_of()
    assert digest_of(cc="a") != digest_of()


def test_a_decimal_that_lost_its_trailing_zeros_on_the_way_is_equal() -> None:
    assert digest_of(price=Decimal("1.50")) == digest_of(price=Decimal("1.5"))
    assert digest_of(price=Decimal(100)) == digest_of(price=Decimal("1E+2"))


def test_a_moment_without_a_zone_is_utc() -> None:
    assert digest_of(at=MOMENT) == digest_of(at=MOMENT.replace(tzinfo=None))
