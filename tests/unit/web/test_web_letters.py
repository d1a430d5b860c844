"""Letters as the page shows them: whatever their headers hold, and never more of them than is good."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from supervisor.brokers.base import Delivery
from supervisor.brokers.dead_letter_browser import DeadLetterBrowser
from supervisor.messages.message import Properties
from supervisor.web import dead_letters
from supervisor.web.answers import encoded
from supervisor.web.dead_letters import letter

DIAGNOSIS = {
    "x-preforkd-cause": "timeout",
    "x-preforkd-reason": "took too long",
    "x-preforkd-attempts": 5,
    "x-preforkd-status": 124,
    "x-preforkd-worker": "email/3",
    "x-preforkd-at": "2026-01-01T00:00:00.000Z",
    "x-preforkd-stack": "Traceback\n  line",
    "x-preforkd-queue": "email",
}


def dead(headers: dict[str, Any] | None = None, body: bytes = b"body", message_id: str | None = "m1") -> Delivery:
    """A message as it lies in `email.dead`."""
    return Delivery(1, 1, "", "email.dead", False, Properties(message_id=message_id, headers=headers), body)


AT = datetime(2026, 1, 1, tzinfo=UTC)


class OneByOne:
    """An admin that hands out these and counts how many were taken."""

    def __init__(self, *deliveries: Delivery) -> None:
        self.left = list(deliveries)
        self.taken = 0

    def take(self, queue: str, limit: int) -> list[Delivery]:
        taken, self.left = self.left[:limit], self.left[limit:]
        self.taken += len(taken)
        return taken


def test_a_letter_says_what_happened_to_it() -> None:
    assert msgspec.to_builtins(letter(3, dead({**DIAGNOSIS, "tenant": 7}))) == {
        "number": 3,
        "id": "m1",
        "cause": "timeout",
        "reason": "took too long",
        "attempts": 5,
        "status": 124,
        "signal": None,
        "worker": "email/3",
        "at": "2026-01-01T00:00:00.000Z",
        "stack": "Traceback\n  line",
        "former": [],
        "headers": {"tenant": 7},
        "body_preview": "body",
        "body_bytes": 4,
    }


def test_a_letter_says_how_former_rounds_ended() -> None:
    shown = letter(1, dead({**DIAGNOSIS, "x-preforkd-former": [{"round": 2, "cause": "killed", "signal": "SIGKILL"}]}))

    assert msgspec.to_builtins(shown.former) == [
        {
            "round": 2,
            "cause": "killed",
            "reason": "",
            "attempts": None,
            "status": None,
            "signal": "SIGKILL",
            "worker": "",
            "at": "",
            "stack": "",
        }
    ]
    assert shown.headers == {}


def test_a_message_put_there_by_hand_is_a_dead_letter_without_a_diagnosis() -> None:
    bare = letter(1, dead(None, message_id=None))

    assert (bare.id, bare.cause, bare.attempts, bare.headers) == ("", "", None, {})


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\x00",
        {"a": [b"b", {"c": Decimal("1.5")}]},
        [1, None, "x"],
        datetime(2026, 1, 1, tzinfo=UTC),
        "\ud800",
        2.5,
    ],
)
def test_whatever_a_header_holds_becomes_json_of_the_promised_types(value: Any) -> None:
    shown = letter(1, dead(dict.fromkeys((*DIAGNOSIS, "x-preforkd-former", "theirs"), value)))

    assert encoded({"letters": [shown]})
    assert isinstance(shown.cause, str)
    assert shown.attempts is None
    assert shown.status is None


def test_long_headers_and_bodies_are_cut() -> None:
    shown = letter(1, dead({"long": "x" * 100_000}, b"y" * 1_000_000))

    assert shown.headers["long"].endswith("… 98000 more character(s)")
    assert (len(shown.body_preview), shown.body_bytes) == (2000, 1_000_000)


def test_looking_stops_where_bodies_have_become_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MAX_LOOKED_BYTES", 5)
    admin = OneByOne(*[dead(body=b"1234")] * 5)

    found = list(dead_letters._oldest(DeadLetterBrowser(admin, "email", "email.dead", 5), 4))  # type: ignore[arg-type]

    assert (len(found), admin.taken) == (2, 2)


def test_a_search_ends_with_the_last_letter_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = OneByOne(*[dead(message_id=f"m{number}") for number in range(10)])
    box = DeadLetterBrowser(admin, "email", "email.dead", 10)  # type: ignore[arg-type]

    assert [each.properties.message_id for each in dead_letters._with_ids(box, ["m2", "m0"])] == ["m0", "m2"]
    assert admin.taken == 3

    monkeypatch.setattr(dead_letters, "MAX_SEARCHED", 4)
    assert dead_letters._with_ids(box, ["no such id"]) == []
    assert admin.taken <= 3 + 5
