"""Copies of a message: for another attempt, for the dead-letter queue, for the parked queue. Pure.

A copy looks like the original to its handler: what it may carry it carries, the rest, exchange and routing key are in
headers of ours. It is persistent. A broker refuses some properties from us (`user_id` of another user), or acts on them
again (`expiration`, `CC`), or writes its own over them (`x-death`); and a name that was no UTF-8 may be too long as
text. The copy is published without these, and the header `ORIGINAL` says what they were: properties as a table, headers
as pairs of name and value.
"""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec

from supervisor.brokers.base import Delivery, Outgoing
from supervisor.brokers.copy_headers import (
    ATTEMPT,
    EARLIER,
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
from supervisor.consumer.settlement.messages import NONE_EARLIER, Earlier, Entry, Failure
from supervisor.ledger.base import RowState
from supervisor.link.frames import Run, RunId
from supervisor.logs.events import Event
from supervisor.messages.message import Properties, UnreadableHeaders
from supervisor.messages.transport_headers import is_left_behind
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

_EARLIER_REASON_CHARACTERS = 1000

_TO_BROKERS = ("expiration", "user_id", "cluster_id")
_PERSISTENT = 2
_SHORT_BYTES = 255  # of a name or property in AMQP
_DEEPEST = 80
"""A header that is nested more deeply is not kept: within ours it might be too deep to be read again."""
_FIELDS = frozenset(Properties.__struct_fields__) - {"headers"}
_NUMBERS = frozenset({"delivery_mode", "priority", "timestamp"})


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


def earlier_of(delivery: Delivery) -> Earlier:
    """What a copy of ours says of earlier attempts of its round; of a header that cannot be read nothing."""
    table = (delivery.properties.headers or {}).get(EARLIER)
    if table is None:
        return NONE_EARLIER
    try:
        return msgspec.convert(table, Earlier)
    except msgspec.ValidationError:  # any publisher may have written it
        return NONE_EARLIER


def _in_header(earlier: Earlier) -> dict[str, Any]:
    given_up = earlier.given_up
    if given_up is not None:
        reason = given_up.reason[:_EARLIER_REASON_CHARACTERS]
        given_up = msgspec.structs.replace(given_up, reason=reason)
        earlier = msgspec.structs.replace(earlier, given_up=given_up)
    table: dict[str, Any] = msgspec.to_builtins(earlier)
    return table


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


def order_of(entry: Entry, queue: str, begins_until_s: float = inf) -> Run:
    """What a worker is sent to run this message. It may begin until `begins_until_s` (CLOCK_BOOTTIME), or until its own
    time is over. Raises ValueError where the entry has no delivery."""
    delivery = entry.delivery
    if delivery is None:
        raise ValueError("a waiting message has its delivery")
    properties, exchange, routing_key = delivery.properties, delivery.exchange, delivery.routing_key
    if properties.headers:  # it may be a copy of ours
        properties, (exchange, routing_key) = as_handled(delivery, queue), origin(delivery, queue)
    body, redelivered = delivery.body, delivery.redelivered
    order = Run(entry.run, entry.id, properties, body, exchange, routing_key, redelivered, entry.maybe_duplicate)
    if entry.earlier is NONE_EARLIER and entry.expiry is None and begins_until_s == inf:  # nearly always, on one host
        return order
    due_s = begins_until_s if entry.expiry is None else min(entry.expiry.due_s, begins_until_s)
    due_s = 0.0 if due_s == inf else due_s
    return msgspec.structs.replace(order, database=entry.earlier.database, given_up=entry.earlier.told, due_s=due_s)


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
    earlier = (failure.earlier if retry else None) or NONE_EARLIER
    properties = _stamped(entry, delivery, queue, RunId(entry.key, round_, attempt), earlier)
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
    properties = _stamped(entry, delivery, queue, entry.run, entry.earlier)
    if not entry.has_id:
        headers = (properties.headers or {}) | {REPEATS: True}
        properties = msgspec.structs.replace(properties, headers=headers, message_id=None)
    return Outgoing(token, "", queue, properties, delivery.body)


def is_repetition(delivery: Delivery) -> bool:
    """Whether this is a saved copy of a message without an id, whose original may have come back."""
    headers = delivery.properties.headers
    return headers is not None and headers.get(REPEATS) is True


def _stamped(entry: Entry, delivery: Delivery, queue: str, run: RunId, earlier: Earlier) -> Properties:
    """The properties of a copy: those of the original, as far as a broker takes them, and the run it stands for."""
    original = as_handled(delivery, queue)
    properties, lacking = without(original)
    exchange, routing_key = origin(delivery, queue)
    headers: dict[str, Any] = (properties.headers or {}) | {
        QUEUE: queue,
        ROUND: run.round,
        ATTEMPT: run.attempt,
        EXCHANGE: exchange,
        ROUTING_KEY: routing_key,
    }
    if not properties.message_id and not is_long(entry.id):
        lacking.setdefault("message_id", properties.message_id)
        properties = msgspec.structs.replace(properties, message_id=entry.id)
    if lacking:
        headers[ORIGINAL] = lacking
    if earlier != NONE_EARLIER:
        headers[EARLIER] = _in_header(earlier)
    if former := rounds_behind(delivery.properties.headers, queue):
        headers[FORMER] = former
    if isinstance(original.headers, UnreadableHeaders):
        headers[UNREADABLE_HEADERS] = original.headers.raw
    return msgspec.structs.replace(properties, headers=headers)


def _diagnosis(entry: Entry, failure: Failure, host: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "cause": failure.cause,
        "reason": failure.reason[:STACK_CHARACTERS],
        "attempts": entry.attempt if failure.ran else 0,
        "status": failure.status,
        "signal": failure.signal,
        "worker": failure.worker,
        "host": host,
        "at": rfc3339(failure.at_s),
        "stack": failure.stack[-STACK_CHARACTERS:],
    }
    return {PREFIX + name: value for name, value in facts.items() if value not in (None, "")}


# ---- what a copy cannot carry ---------------------------------------------------------------------------------------


def without(properties: Properties) -> tuple[Properties, dict[str, Any]]:
    """The properties as a copy may carry them, and what they lack: to be kept in the header, {} for nothing.

    The copy is persistent, and has no `message_id` if the message had none that fits.
    """
    fields = msgspec.structs.asdict(properties)
    headers = fields.pop("headers") or {}
    lacking: dict[str, Any] = {
        name: value for name, value in fields.items() if value is not None and (name in _TO_BROKERS or is_long(value))
    }
    if properties.delivery_mode != _PERSISTENT:
        lacking["delivery_mode"] = properties.delivery_mode
    carried = {name: value for name, value in headers.items() if _is_carried(name)}
    left = [[name, value] for name, value in headers.items() if name not in carried and _depth(value) < _DEEPEST]
    changes = dict.fromkeys(lacking) | {"delivery_mode": _PERSISTENT, "headers": carried}
    if left or (properties.headers is not None and not carried):
        lacking["headers"] = left
    return msgspec.structs.replace(properties, **changes), lacking


def restored(properties: Properties, kept: Any) -> Properties:
    """The properties that the message had before it was copied. `kept`: that header, or what stands in its place."""
    headers = {name: value for name, value in (properties.headers or {}).items() if _is_carried(name)}
    if not isinstance(kept, dict):
        return msgspec.structs.replace(properties, headers=headers or None)
    pairs = kept.get("headers")
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str):
            headers[pair[0]] = pair[1]
    fields = {name: value for name, value in kept.items() if name in _FIELDS and _fits(name, value)}
    return msgspec.structs.replace(properties, headers=headers or (None if pairs is None else {}), **fields)


def _is_carried(name: str) -> bool:
    return not is_left_behind(name) and not is_long(name)


def is_long(value: Any) -> bool:
    """Whether `value` is a text that AMQP cannot carry as a name or property."""
    return isinstance(value, str) and len(value) > _SHORT_BYTES // 4 and len(value.encode()) > _SHORT_BYTES


def _fits(name: str, value: Any) -> bool:
    """Whether a property may have this value: any publisher may have written the header."""
    return value is None or (type(value) is int if name in _NUMBERS else type(value) is str)


def _depth(value: Any) -> int:
    """In how many tables and arrays its innermost value is."""
    depth, level = 0, [value]
    while level:
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        depth += bool(level)
    return depth
