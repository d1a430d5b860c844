"""What a program gives, and the publication of it: its id, its time, its expiry, its JSON. Pure, except for the new id.

Runs in user processes, in the caller's own line: what cannot be sent is told there, before it is buffered.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import Any, NamedTuple

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


class Request(NamedTuple):
    """A message as a program gives it.

    `exchange`: "" for the default exchange. `expires_s`: how long it may wait for its run; None: for ever. `delay_s`:
    how long it waits before it is in its queue, within that.
    """

    routing_key: str
    body: bytes | str
    exchange: str = ""
    properties: Properties = Properties()
    expires_s: float | None = None
    delay_s: float = 0.0

    def in_delay_queue(self) -> Request:
        """The same with a delay that delay queues have, rounded up. Raises InvalidMessage where none is possible."""
        longest_s = DELAY_LADDER_S[-1]
        if not 0 <= self.delay_s <= longest_s:
            raise InvalidMessage(
                f"publish: delay_s = {self.delay_s:g}: it is from 0 to {longest_s:.0f} s"
                f" ({longest_s / 86400:.0f} days); supervisor.outbox takes longer ones"
            )
        if self.delay_s and self.exchange:
            raise InvalidMessage("publish: a delay is for a message to a queue: leave out exchange, or delay_s")
        if self.delay_s and self.properties.expiration is not None:
            raise InvalidMessage("publish: expiration would end the delay: leave it out, and use expires_s")
        return self._replace(delay_s=delay_step_s(self.delay_s)) if self.delay_s else self

    def publication(self, now_s: float) -> Publication:
        """It in plain types, persistent, with an id, and with the end of its delay as its time: it cannot run before.

        `now_s`: wall clock. Raises TypeError for another body, InvalidMessage for what cannot be sent.
        """
        body = self.body
        if not isinstance(body, bytes | str):
            raise TypeError(
                f"publish: the body must be bytes or str, not {type(body).__name__}; send_later takes objects"
            )
        if not self.exchange and not self.routing_key:
            raise InvalidMessage("publish: name the queue, or an exchange: the message has neither")
        properties = self._completed(now_s)
        data = body.encode() if isinstance(body, str) else bytes(body)
        try:
            return sendable(Publication(self.exchange, self.routing_key, properties, data))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise InvalidMessage(f"publish: this cannot be sent: {error}", str(properties.message_id)) from error

    def _completed(self, now_s: float) -> Properties:
        given = self.properties
        return msgspec.structs.replace(
            given,
            message_id=uuid.uuid4().hex if given.message_id in (None, "") else given.message_id,
            timestamp=max(0, int(now_s + self.delay_s)) if given.timestamp is None else given.timestamp,
            delivery_mode=_PERSISTENT,
            headers=given.headers if self.expires_s is None else {**(given.headers or {}), EXPIRES: self._end_s(now_s)},
        )

    def _end_s(self, now_s: float) -> int:
        """When the message expires, by the wall clock."""
        expires_s = 0.0 if self.expires_s is None else self.expires_s
        if not 0 < expires_s < math.inf:
            raise InvalidMessage(f"publish: expires_s = {expires_s:g}: it is a number of seconds, more than 0")
        if self.delay_s and expires_s <= self.delay_s:
            raise InvalidMessage(
                f"publish: with expires_s = {expires_s:g} it expires before its delay of {self.delay_s:g} s"
            )
        return math.ceil(now_s + expires_s)


def properties_of(properties: Properties | None, message_id: str | None, fields: dict[str, Any]) -> Properties:
    """`properties` with single `fields` replaced, and the `message_id` unless that is None.

    Raises TypeError for a field that there is not.
    """
    given = fields if message_id is None else fields | {"message_id": message_id}
    return msgspec.structs.replace(properties or Properties(), **given)


def json_body(value: Any) -> bytes:
    """`value` as JSON. Raises InvalidMessage for one that JSON does not have."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"send_later: the value is not JSON: {error}") from error
