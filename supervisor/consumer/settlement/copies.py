"""Copies of a message: for another attempt, for the dead-letter queue, for the parked queue. Pure.

A copy looks like the original to its handler: what it may carry it carries, the rest, exchange and routing key are in
headers of ours (`originals.py`). It is persistent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.brokers.base import Delivery, Outgoing
from supervisor.brokers.copy_headers import (
    ATTEMPT,
    EXCHANGE,
    FORMER,
    LEFT_OUT,
    ORIGINAL,
    PREFIX,
    QUEUE,
    REDUCED,
    REPEATS,
    ROUND,
    ROUTING_KEY,
    UNREADABLE_HEADERS,
    plain,
    rounds_behind,
)
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.consumer.settlement.originals import is_long, restored, without
from supervisor.ledger.base import RowState
from supervisor.link.frames import Run
from supervisor.logs.events import Event
from supervisor.messages.message import Properties, UnreadableHeaders
from supervisor.system.clock import rfc3339

CONFIRMED = {
    RowState.RETRY_PENDING: (RowState.RETRY, "retried", Event.MESSAGE_RETRIED),
    RowState.DEAD_PENDING: (RowState.DEAD, "dead", Event.MESSAGE_DEAD),
    RowState.PARKED_PENDING: (RowState.PARKED, "parked", Event.MESSAGE_PARKED),
}
"""What a confirmed copy turns a pending row into: the state, the counter and the event."""

PENDING = {state.value: state for state in CONFIRMED}
"""By their words."""

_REDUCED_TO = ("message_id", "content_type", "content_encoding", "delivery_mode")

MOST_RUNS = 2**31 - 1

STACK_CHARACTERS = 8000
"""Headers must fit into one AMQP frame (128 KiB as negotiated by default) together with the user's own."""


def stamp(delivery: Delivery, queue: str) -> tuple[int, int] | None:
    """The (round, attempt) a copy of ours carries; None where it is no copy, or one of another queue.

    Larger numbers than `MOST_RUNS` are forged: frames and slot files have 32 bits for them and for their successors.
    """
    headers = delivery.properties.headers
    if not headers or headers.get(QUEUE) != queue:
        return None
    round_, attempt = headers.get(ROUND), headers.get(ATTEMPT)
    if type(round_) is int and type(attempt) is int and 1 <= round_ <= MOST_RUNS and 1 <= attempt <= MOST_RUNS:
        return round_, attempt
    return None


def origin(delivery: Delivery, queue: str) -> tuple[str, str]:
    """The exchange and routing key of the first publication, seen through our own copies."""
    headers = delivery.properties.headers or {}
    if headers.get(QUEUE) != queue:
        return delivery.exchange, delivery.routing_key
    return (
        str(headers.get(EXCHANGE, delivery.exchange)),
        str(headers.get(ROUTING_KEY, delivery.routing_key)),
    )


def as_handled(delivery: Delivery, queue: str) -> Properties:
    """The properties that a handler sees: those of the original, without what copies and brokers added."""
    headers = delivery.properties.headers
    if not headers or headers.get(QUEUE) != queue:
        return delivery.properties
    return restored(delivery.properties, headers.get(ORIGINAL))


def order_of(entry: Entry, queue: str) -> Run:
    """What a worker is sent to run this message. Raises ValueError where the entry has no delivery."""
    delivery = entry.delivery
    if delivery is None:
        raise ValueError("a waiting message has its delivery")
    properties, exchange, routing_key = delivery.properties, delivery.exchange, delivery.routing_key
    if properties.headers:  # it may be a copy of ours
        properties, (exchange, routing_key) = as_handled(delivery, queue), origin(delivery, queue)
    body, redelivered = delivery.body, delivery.redelivered
    return Run(entry.run, entry.id, properties, body, exchange, routing_key, redelivered, entry.maybe_duplicate)


def next_round(entry: Entry, properties: Properties, queue: str) -> Properties:
    """The properties of a message that its own handler puts back into its queue: it is no repetition of this run."""
    stamps = {QUEUE: queue, ROUND: entry.round + 1, ATTEMPT: 1}
    return msgspec.structs.replace(properties, headers=(properties.headers or {}) | stamps)


def copy_of(entry: Entry, queue: str, host: str, token: int) -> Outgoing:
    """The copy that `entry.pending` asks for. `token`: of its publication.

    Raises ValueError where the entry lacks its delivery or its failure.
    """
    delivery, failure = entry.delivery, entry.failure
    if delivery is None or failure is None:
        raise ValueError("a copy needs the message and the reason")
    retry = entry.pending is RowState.RETRY_PENDING
    round_, attempt = (entry.round, entry.attempt + 1) if retry else (entry.round + 1, 1)
    properties = _stamped(entry, delivery, queue, round_, attempt)
    if not retry:
        headers = (properties.headers or {}) | _diagnosis(entry, failure, host)
        properties = msgspec.structs.replace(properties, headers=headers)
    target = {
        RowState.RETRY_PENDING: queue,
        RowState.DEAD_PENDING: dead_queue(queue),
        RowState.PARKED_PENDING: parked_queue(queue),
    }[entry.pending or RowState.DEAD_PENDING]
    return Outgoing(token, "", target, properties, delivery.body, failure.delay_s if retry else 0.0)


def is_reducible(copy: Outgoing) -> bool:
    """Whether this copy can do without the headers of its message: it is for people, and still has them."""
    headers = copy.properties.headers or {}
    return headers.get(QUEUE) != copy.routing_key and REDUCED not in headers


def reduced(copy: Outgoing, why: str) -> Outgoing:
    """A dead or parked copy as every broker takes it: body, id, stamps and diagnosis, and what is left out as text.

    `why`: the broker's reason, for the header that says that something was left out.
    """
    properties = msgspec.structs.asdict(copy.properties)
    headers: dict[str, Any] = properties.pop("headers") or {}
    kept = {
        name: value
        for name, value in headers.items()
        if name.startswith(PREFIX) and name != ORIGINAL and type(value) in (str, int)
    }
    left = {name: value for name, value in properties.items() if value is not None and name not in _REDUCED_TO}
    left["headers"] = {name: value for name, value in headers.items() if name not in kept}
    kept |= {REDUCED: why[:STACK_CHARACTERS], LEFT_OUT: repr(plain(left))[:STACK_CHARACTERS]}
    bare = Properties(headers=kept, **{name: properties[name] for name in _REDUCED_TO})
    return msgspec.structs.replace(copy, properties=bare)


def saved_copy(entry: Entry, queue: str, token: int) -> Outgoing:
    """The same run of the same message, for its own queue, which has not had it back yet. `token`: of its publication.

    Without an id it is published without one, and says that it may be a repetition: its original may come back.
    Raises ValueError where the entry has no delivery.
    """
    delivery = entry.delivery
    if delivery is None:
        raise ValueError("a copy needs the message")
    properties = _stamped(entry, delivery, queue, entry.round, entry.attempt)
    if not entry.has_id:
        headers = (properties.headers or {}) | {REPEATS: True}
        properties = msgspec.structs.replace(properties, headers=headers, message_id=None)
    return Outgoing(token, "", queue, properties, delivery.body)


def is_repetition(delivery: Delivery) -> bool:
    """Whether this is a saved copy of a message without an id, whose original may have come back."""
    headers = delivery.properties.headers
    return headers is not None and headers.get(REPEATS) is True


def _stamped(entry: Entry, delivery: Delivery, queue: str, round_: int, attempt: int) -> Properties:
    """The properties of a copy: those of the original, as far as a broker takes them, and the run it stands for."""
    original = as_handled(delivery, queue)
    properties, lacking = without(original)
    exchange, routing_key = origin(delivery, queue)
    headers: dict[str, Any] = (properties.headers or {}) | {
        QUEUE: queue,
        ROUND: round_,
        ATTEMPT: attempt,
        EXCHANGE: exchange,
        ROUTING_KEY: routing_key,
    }
    if not properties.message_id and not is_long(entry.id):
        lacking.setdefault("message_id", properties.message_id)
        properties = msgspec.structs.replace(properties, message_id=entry.id)
    if lacking:
        headers[ORIGINAL] = lacking
    if former := rounds_behind(delivery.properties.headers, queue):
        headers[FORMER] = former
    if isinstance(original.headers, UnreadableHeaders):
        headers[UNREADABLE_HEADERS] = original.headers.raw
    return msgspec.structs.replace(properties, headers=headers)


def _diagnosis(entry: Entry, failure: Failure, host: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "cause": failure.cause,
        "reason": failure.reason[:STACK_CHARACTERS],
        "attempts": entry.attempt,
        "status": failure.status,
        "signal": failure.signal,
        "worker": failure.worker,
        "host": host,
        "at": rfc3339(failure.at_s),
        "stack": failure.stack[-STACK_CHARACTERS:],
    }
    return {PREFIX + name: value for name, value in facts.items() if value not in (None, "")}
