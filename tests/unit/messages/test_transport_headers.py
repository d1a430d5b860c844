"""Headers that are no content: one list, found in any spelling that clients use, and nothing that looks like them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.brokers.base import Delivery
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import RowState
from supervisor.messages.identity import content_digest, former_digests
from supervisor.messages.message import Properties
from supervisor.messages.transport_headers import HEADERS, is_left_behind, matcher, transport, transport_before

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"

SENT_AGAIN = (
    *("traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "X-B3-TraceId", "X-B3-SpanId", "x-b3-sampled"),
    *(
        "sentry-trace",
        "x-datadog-trace-id",
        "x-datadog-parent-id",
        "x-datadog-tags",
        "uber-trace-id",
        "x-amzn-trace-id",
    ),
    *("X-Amzn-Trace-Id", "x-routed-by", "timestamp_in_ms", "x-death", "x-delivery-count", "x-opt-shovelled-by"),
    *("Traceparent", "x-mqtt-dup", "x-cloud-trace-context", "elastic-apm-traceparent", "x-request-id", "sw8"),
    *("spring_returned_message_correlation", "x-instana-t", "newrelic", "uberctx-user", "dd-pathway-ctx-base64"),
)

NOT_THESE = (
    "x-delivery-count-note",
    "x-deathly",
    "traceparent2",
    "my-traceparent",
    "b33",
    "cc",
    "bcc",
    "x-b3",
    "trace",
)


def a_name() -> st.SearchStrategy[str]:
    """A transport header's name; something after the beginning that stands for many."""
    named = st.sampled_from([header.name for header in HEADERS])
    return st.builds(lambda name, end: name.replace("*", end), named, st.text(max_size=4))


def values() -> st.SearchStrategy[Any]:
    return st.one_of(st.text(max_size=8), st.integers(0, 9), st.binary(max_size=4), st.booleans())


def tables() -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=6).filter(lambda name: not transport()(name)), values(), max_size=3)


def copy_of(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers of a retry copy, without ours."""
    entry = Entry(b"k" * 24, "m", 1, 1)
    entry.delivery = Delivery(1, 1, "", "work", False, Properties(headers=headers, message_id="m"), b"")
    entry.failure, entry.pending = Failure("failed", "no"), RowState.RETRY_PENDING
    made = copies.copy_of(entry, "work", "host", 1).properties.headers or {}
    return {name: value for name, value in made.items() if not name.startswith("x-preforkd-")}


@pytest.mark.parametrize("name", SENT_AGAIN)
def test_what_a_retry_of_the_publisher_or_the_way_changes_is_no_content(name: str) -> None:
    first, again = (Properties(headers={"tenant": 7, name: value}) for value in ("one", "other"))
    assert (
        content_digest(first, b"x")
        == content_digest(again, b"x")
        == content_digest(Properties(headers={"tenant": 7}), b"x")
    )


@pytest.mark.parametrize("name", NOT_THESE)
def test_what_only_looks_like_it_is_content_and_stays_on_copies(name: str) -> None:
    assert content_digest(Properties(headers={name: 1}), b"") != content_digest(Properties(headers={name: 2}), b"")
    assert copy_of({name: 1}) == {name: 1}


@given(tables(), st.dictionaries(a_name(), values(), max_size=4), st.dictionaries(a_name(), values(), max_size=4))
def test_any_values_of_transport_headers_make_one_message(
    own: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    digests = {content_digest(Properties(headers={**own, **way}), b"x") for way in ({}, one, other)}
    assert len(digests) == 1


@given(tables(), st.dictionaries(a_name(), values(), max_size=4), st.text(max_size=6), values())
def test_any_other_header_makes_another_message(
    own: dict[str, Any], way: dict[str, Any], name: str, value: object
) -> None:
    own.pop(name, None)
    with_it, without = ({**own, **way, **more} for more in ({name: value}, {}))
    same = content_digest(Properties(headers=with_it), b"x") == content_digest(Properties(headers=without), b"x")
    assert same == transport()(name)


@given(tables(), st.dictionaries(a_name(), values(), max_size=4))
def test_a_copy_has_all_headers_but_those_that_are_left_behind_and_is_the_same_message(
    own: dict[str, Any], way: dict[str, Any]
) -> None:
    headers = {**own, **way}
    kept = copy_of(headers)
    assert kept == {name: value for name, value in headers.items() if not is_left_behind(name)}
    assert content_digest(Properties(headers=kept), b"x") == content_digest(Properties(headers=headers), b"x")


@given(tables(), st.dictionaries(a_name(), values(), max_size=4))
def test_what_the_former_rule_made_of_a_message_is_among_its_former_digests(
    own: dict[str, Any], way: dict[str, Any]
) -> None:
    properties = Properties(headers={**own, **way})
    present = content_digest(properties, b"x")
    former = content_digest(properties, b"x", transport_before(1))
    assert former == present or former in former_digests(properties, b"x", transport())


def test_a_message_without_transport_headers_has_no_former_digest() -> None:
    assert list(former_digests(Properties(headers={"tenant": 7}), b"x", transport())) == []
    assert list(former_digests(Properties(), b"x", transport())) == []


def test_a_pools_own_transport_headers_are_added_to_the_list_and_were_content_before() -> None:
    own = transport(["x-acme-*", "Attempt"])
    properties = Properties(headers={"x-acme-hop": 1, "Attempt": 2, "tenant": 7})
    assert content_digest(properties, b"", own) == content_digest(Properties(headers={"tenant": 7}), b"")
    assert content_digest(properties, b"") in former_digests(properties, b"", own)
    assert own("X-Acme-Hop")
    assert not own("attempt"), "a name with capitals is found as it is written only"


def test_a_name_is_remembered_for_itself_and_not_for_another() -> None:
    one = matcher(["a", "b*"])
    assert [one(name) for name in ("a", "A", "b", "bc", "ab", "", "a")] == [True, True, True, True, False, False, True]


def test_each_header_has_its_source_and_is_on_the_page() -> None:
    section = PAGE.read_text().partition("## What is content")[2].partition("\n## ")[0]
    table = {name for line in section.splitlines() if line.startswith("|") for name in re.findall(r"`([^`]+)`", line)}
    assert table == {header.name for header in HEADERS}
    assert all(header.source for header in HEADERS)
    assert len({header.name for header in HEADERS}) == len(HEADERS)


def test_what_is_not_carried_was_no_content_under_any_rule() -> None:
    """Or a retry copy that is under way would be another message than its original."""
    assert all(header.since == 1 for header in HEADERS if not header.carried)


def test_rows_of_the_former_rule_are_found_by_msgspecs_canonical_form_of_the_table() -> None:
    """Rule 1, written out: what it gave to a message must be given for ever."""
    properties = Properties(headers={"traceparent": "00-a", "x-death": [], "tenant": 7}, type="t")
    assert content_digest(properties, b"x", transport_before(1)).hex() == RULE_1


RULE_1 = "1f8814e10f2bde25e76e0b5b264fb036"
