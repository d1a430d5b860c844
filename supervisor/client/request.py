"""Makes a publication of what a program gives: its id, its time, its expiry, its JSON. Pure, except for the new id.

Runs in user processes, in the caller's own line: what cannot be sent is told there, before it is buffered.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import msgspec

from supervisor.brokers.copy_headers import EXPIRES
from supervisor.brokers.names import DELAY_LADDER_S, delay_step_s
from supervisor.client.errors import InvalidMessage
from supervisor.messages.message import Properties, Publication
from supervisor.messages.publications import sendable

_PERSISTENT = 2


def name_of(publication: Publication) -> str:
    """The message as texts name it."""
    message = f"message {publication.properties.message_id!r}"
    if publication.exchange:
        return f"{message} for exchange {publication.exchange!r}, routing key {publication.routing_key!r}"
    return f"{message} for queue {publication.routing_key!r}"


def publication_of(
    routing_key: str,
    body: bytes | str,
    exchange: str,
    properties: Properties,
    expires_s: float | None,
    now_s: float,
    delay_s: float = 0.0,
) -> Publication:
    """A publication in plain types, persistent, with an id and a time.

    `properties`: those that the program gives. `expires_s`: how long the message may wait for its run; None: for ever.
    `now_s`: wall clock. `delay_s`: as checked by `checked_delay_s`; the message's time is the end of its delay, as it
    cannot be run before. Raises TypeError for another body, InvalidMessage for what cannot be sent.
    """
    if not isinstance(body, bytes | str):
        raise TypeError(f"publish: the body must be bytes or str, not {type(body).__name__}; send_later takes objects")
    if not exchange and not routing_key:
        raise InvalidMessage("publish: name the queue, or an exchange: the message has neither")
    data = body.encode() if isinstance(body, str) else bytes(body)
    due_s = now_s + (delay_step_s(delay_s) if delay_s > 0 else 0.0)
    if expires_s is not None and delay_s > 0 and expires_s <= due_s - now_s:
        raise InvalidMessage(
            f"publish: with expires_s = {expires_s:g} it expires before its delay of {due_s - now_s:g} s"
        )
    given = msgspec.structs.replace(
        properties,
        message_id=uuid.uuid4().hex if properties.message_id in (None, "") else properties.message_id,
        timestamp=max(0, int(due_s)) if properties.timestamp is None else properties.timestamp,
        delivery_mode=_PERSISTENT,
        headers=_with_expiry(properties.headers, expires_s, now_s),
    )
    try:
        return sendable(Publication(exchange, routing_key, given, data))
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidMessage(f"publish: this cannot be sent: {error}", str(given.message_id)) from error


def checked_delay_s(delay_s: float, publication: Publication) -> float:
    """The delay in seconds. Raises InvalidMessage for one that delay queues do not have."""
    longest_s = DELAY_LADDER_S[-1]
    if not 0 <= delay_s <= longest_s:
        raise InvalidMessage(
            f"publish: delay_s = {delay_s:g}: it is from 0 to {longest_s:.0f} s ({longest_s / 86400:.0f} days); write a"
            " later date into a table, and publish when its day has come"
        )
    if delay_s and publication.exchange:
        raise InvalidMessage("publish: a delay is for a message to a queue: leave out exchange, or delay_s")
    if delay_s and publication.properties.expiration is not None:
        raise InvalidMessage("publish: expiration would end the delay: leave it out, and use expires_s")
    return float(delay_s)


def json_body(value: Any) -> bytes:
    """`value` as JSON. Raises InvalidMessage for one that JSON does not have."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"send_later: the value is not JSON: {error}") from error


def _with_expiry(headers: Any, expires_s: float | None, now_s: float) -> Any:
    if expires_s is None:
        return headers
    if not 0 < expires_s < math.inf:
        raise InvalidMessage(f"publish: expires_s = {expires_s:g}: it is a number of seconds, more than 0")
    return {**(headers or {}), EXPIRES: math.ceil(now_s + expires_s)}
