"""Dead messages on their way back to work, and on their way to a reader."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import retry_copy
from supervisor.cli.dead import as_json_object, body_text, describe, summary
from supervisor.messages.message import Properties

DIAGNOSIS = {
    "x-preforkd-cause": "timeout",
    "x-preforkd-reason": "took too long\nfar too long",
    "x-preforkd-attempts": 5,
    "x-preforkd-status": 124,
    "x-preforkd-signal": "",
    "x-preforkd-worker": "email/3",
    "x-preforkd-host": "h",
    "x-preforkd-at": "2026-01-01T00:00:00.000Z",
    "x-preforkd-stack": "Traceback\n  line",
}
STAMPS = {
    "x-preforkd-queue": "email",
    "x-preforkd-round": 2,
    "x-preforkd-attempt": 1,
    "x-preforkd-exchange": "mail",
    "x-preforkd-routing-key": "mail.out",
}


def dead(headers: dict[str, Any] | None = None, body: bytes = b"body", **properties: Any) -> Delivery:
    """A message as it lies in `email.dead`."""
    return Delivery(1, 1, "", "email.dead", False, Properties(message_id="m1", headers=headers, **properties), body)


def test_a_retried_message_keeps_its_stamps_and_the_users_headers_and_its_diagnosis_as_that_of_a_former_round() -> None:
    copy = retry_copy(dead({**DIAGNOSIS, **STAMPS, "tenant": 7}), "email")

    told = {name.removeprefix("x-preforkd-"): value for name, value in DIAGNOSIS.items() if value}
    assert copy.properties.headers == {**STAMPS, "tenant": 7, "x-preforkd-former": [{"round": 1, **told}]}
    assert (copy.exchange, copy.routing_key, copy.body) == ("", "email", b"body")


def test_a_retried_message_keeps_its_properties() -> None:
    original = dead(STAMPS, content_type="text/plain", priority=3, timestamp=5, type="t", correlation_id="c")

    copy = retry_copy(original, "email").properties

    assert copy.message_id == "m1"
    assert (copy.content_type, copy.priority, copy.timestamp) == ("text/plain", 3, 5)
    assert (copy.type, copy.correlation_id, copy.delivery_mode) == ("t", "c", 2)


def test_what_a_broker_would_refuse_or_act_on_again_does_not_go_back() -> None:
    copy = retry_copy(dead({"CC": ["x"], "BCC": ["y"]}, user_id="guest", expiration="1000"), "email").properties

    assert (copy.user_id, copy.expiration, copy.headers) == (None, None, None)


def test_a_line_of_the_list_names_id_cause_attempts_time_and_the_reasons_first_line() -> None:
    assert summary(dead({**DIAGNOSIS, **STAMPS})) == (
        "m1",
        "timeout",
        "5",
        "2026-01-01T00:00:00.000Z",
        "took too long",
    )


def test_a_message_that_the_broker_itself_dead_lettered_can_be_listed() -> None:
    assert summary(dead({"x-death": [{"reason": "delivery_limit"}]})) == ("m1", "-", "-", "-", "")
    assert summary(Delivery(1, 1, "", "q", False, Properties(), b""))[0] == "-"


def test_the_description_has_properties_headers_and_the_stack_last() -> None:
    lines = describe(dead({**DIAGNOSIS, "tenant": 7}, content_type="text/plain")).splitlines()

    assert lines[:2] == ["content_type: text/plain", "message_id: m1"]
    assert "  tenant: 7" in lines
    assert lines[lines.index("  x-preforkd-reason: took too long") + 1] == "    far too long"
    assert lines[-3:] == ["stack:", "Traceback", "  line"]


def test_the_description_tells_how_former_rounds_ended_the_last_one_first() -> None:
    former = [
        {"round": 1, "cause": "killed", "reason": "a\nb", "stack": "Traceback\n  then"},
        {"cause": "failed\nstack: none"},
    ]
    lines = describe(dead({**DIAGNOSIS, "x-preforkd-former": former})).splitlines()

    assert lines[lines.index("stack:") :] == [
        *("stack:", "Traceback", "  line"),
        *("former round ?:", "  cause: failed", "    stack: none"),
        *("former round 1:", "  cause: killed", "  reason: a", "    b", "  stack: Traceback", "      then"),
    ]
    assert not any("x-preforkd-former" in line for line in lines)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", "body: 0 byte(s)\n"),
        ("grüße".encode(), "body: 7 byte(s)\ngrüße"),
        (b"\x00\xff\xfe\x01", "body: 4 byte(s)\n00fffe01"),
        (b"x" * 2001, "body: 2001 byte(s)\n" + "x" * 2000 + "\n… 1 more byte(s)"),
        (b"x" * 1999 + "ü".encode(), "body: 2001 byte(s)\n" + "x" * 1999 + "\n… 1 more byte(s)"),
    ],
)
def test_a_body_is_shown_as_text_where_it_is_text(body: bytes, shown: str) -> None:
    assert body_text(body) == shown


def test_whatever_a_header_holds_can_be_written_as_json() -> None:
    headers = {
        "bytes": b"\xff",
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "number": Decimal("1.5"),
        "table": {"inner": [1, None, True]},
    }

    written = json.loads(json.dumps(as_json_object(dead({**headers, **DIAGNOSIS}, body=b"\xff"))))

    assert written["cause"] == "timeout"
    assert written["body_base64"] == "/w=="
    assert written["properties"]["headers"]["bytes"] == "\\xff"
    assert written["properties"]["headers"]["number"] == "1.5"
    assert written["properties"]["headers"]["table"] == {"inner": [1, None, True]}


def test_an_id_with_a_line_end_does_not_imitate_a_further_line() -> None:
    letter = dead({"a\nreason": "x\ncause: timeout"}, correlation_id="c\ncause: crash", type="t\n")
    letter = msgspec.structs.replace(
        letter, properties=msgspec.structs.replace(letter.properties, message_id="m1\nstack: none")
    )
    shown = describe(letter).splitlines()
    assert "message_id: m1\\nstack: none" in shown
    assert "correlation_id: c\\ncause: crash" in shown
    assert [line for line in shown if line.startswith(("stack", "cause", "reason"))] == []
