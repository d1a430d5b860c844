"""What preforkd writes on its copies of messages, and how it is read: on dead and parked letters above all. Pure.

The consumer writes it (`consumer/settlement/copies.py`); the command line and the web page read it. What is read here
comes from any publisher to those queues. It is not yet made harmless for terminals or pages.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.brokers.base import Delivery
from supervisor.messages.message import Properties, Publication
from supervisor.messages.transport_headers import is_left_behind

PREFIX = "x-preforkd-"
QUEUE = "x-preforkd-queue"
ROUND = "x-preforkd-round"
ATTEMPT = "x-preforkd-attempt"
EXCHANGE = "x-preforkd-exchange"
ROUTING_KEY = "x-preforkd-routing-key"
REPEATS = "x-preforkd-maybe-duplicate"

EXPIRES = "x-preforkd-expires"
"""Of publishers: when the message's first run is of no use any more (`consumer/settlement/expiries.py`)."""

ORIGINAL = "x-preforkd-original"
"""A table: what the message had and its copy does not carry as it was (`consumer/settlement/copies.py`)."""
UNREADABLE_HEADERS = "x-preforkd-unreadable-headers"
"""The bytes of headers that could not be read, as they were received: an AMQP field table with its length."""

REDUCED = "x-preforkd-reduced"
LEFT_OUT = "x-preforkd-left-out"
"""Why the broker would not take this copy with the message's headers and properties; those, as text."""

FORMER = "x-preforkd-former"
"""A list of tables, oldest first: how the rounds before this one ended, in short. The first header to be left out."""

EARLIER = "x-preforkd-earlier"
"""A table on retry copies: what the next attempt is to know of earlier ones of its round (`settlement/copies.py`)."""

STAMPS = frozenset({QUEUE, ROUND, ATTEMPT, EXCHANGE, ROUTING_KEY, ORIGINAL})
"""Headers of preforkd that a retried copy keeps: they make it the next round once, however often it is sent."""

PREVIEW_BYTES = 2000

FORMER_ROUNDS = 3
"""Most rounds that `FORMER` tells of: the last ones."""
FORMER_CHARACTERS = {"reason": 500, "stack": 1500}
_FORMER_FACT_CHARACTERS = 200
_FACTS = ("cause", "reason", "attempts", "status", "signal", "worker", "host", "at", "stack")


def without_diagnosis(properties: Properties) -> Properties:
    """Properties of a retried dead or parked message: of preforkd's headers only the `STAMPS` are kept."""
    headers = {
        name: value for name, value in (properties.headers or {}).items() if name in STAMPS or not is_left_behind(name)
    }
    return msgspec.structs.replace(properties, headers=headers or None, delivery_mode=2, expiration=None, user_id=None)


def retry_copy(delivery: Delivery, queue: str) -> Publication:
    """The message as it goes back to `queue`: with its stamps, and in short what it was given up with."""
    properties = without_diagnosis(delivery.properties)
    former = rounds_behind(delivery.properties.headers, queue)
    if former:
        properties = msgspec.structs.replace(properties, headers=(properties.headers or {}) | {FORMER: former})
    return Publication("", queue, properties, delivery.body)


def rounds_behind(headers: dict[str, Any] | None, queue: str) -> list[dict[str, Any]]:
    """The value of `FORMER` for a copy of a message of `queue` that has these headers; [] in its first round.

    A diagnosis among them is the last of these rounds: a shovel moves a letter back with all its headers.
    """
    if not headers or headers.get(QUEUE) != queue:
        return []
    rounds = former_rounds(headers)
    if f"{PREFIX}cause" in headers:
        round_ = headers.get(ROUND)
        number = {"round": round_ - 1} if type(round_) is int else {}
        rounds.append(number | _in_short({name: headers.get(PREFIX + name) for name in _FACTS}))
    return rounds[-FORMER_ROUNDS:]


def former_rounds(headers: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What `FORMER` says of each round before the last one: `round` and names of `diagnosis`, those that are known.

    Every value is text or a whole number and is cut to its size: any publisher may have written the header.
    """
    value = (headers or {}).get(FORMER)
    tables = [table for table in value if isinstance(table, dict)] if isinstance(value, list) else []
    return [_in_short({name: table.get(name) for name in ("round", *_FACTS)}) for table in tables[-FORMER_ROUNDS:]]


def _in_short(facts: dict[str, Any]) -> dict[str, Any]:
    short: dict[str, Any] = {}
    for name, value in facts.items():
        if type(value) is int:
            short[name] = value
        elif isinstance(value, str) and value:
            most = FORMER_CHARACTERS.get(name, _FORMER_FACT_CHARACTERS)
            short[name] = value[-most:] if name == "stack" else value[:most]
    return short


def diagnosis(delivery: Delivery) -> dict[str, Any]:
    """Facts in preforkd's headers, without the prefix: cause, reason, attempts, status, signal, worker, at, stack."""
    headers = delivery.properties.headers or {}
    return {name.removeprefix(PREFIX): value for name, value in headers.items() if name.startswith(PREFIX)}


def plain(value: Any) -> Any:
    """The `value` of an AMQP table in types of JSON."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def preview(body: bytes) -> str:
    """The first `PREVIEW_BYTES` of a body: as text where it is UTF-8, else in hexadecimal."""
    beginning = body[:PREVIEW_BYTES]
    try:
        return beginning.decode()
    except UnicodeDecodeError as error:
        cut = len(body) > len(beginning)
        if cut and error.start > len(beginning) - 4:  # only its last character was cut in two
            return beginning[: error.start].decode()
        return beginning.hex(" ", 4)
