"""The API for handlers: the message, and the three exceptions that a handler can raise. Runs in workers.

Published: users import these names from `supervisor`, in handlers and in their unit tests; so everything here works
without a worker and imports nothing heavy. It must never do I/O: publishes are only collected, since they may leave
the machine only after the handler has returned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, SupportsFloat

import msgspec

from supervisor.messages.inbox_run import InboxRun
from supervisor.messages.message import Properties, Publication
from supervisor.messages.publications import LARGEST_RUN_BYTES, sendable, weight_bytes


class Retry(Exception):
    """Raised by a handler: run this message again, `delay_s` seconds from now (None: the pool's `retry_delays`).

    Counts as an attempt. `delay_s` is any number (Decimal, Fraction, numpy's). Raises ValueError for a delay that is
    negative or not finite, TypeError for a value that is no number.
    """

    def __init__(self, delay_s: SupportsFloat | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.delay_s = None if delay_s is None else retry_delay_s(delay_s)
        self.reason = reason


def retry_delay_s(given: object) -> float:
    """The delay in seconds that was `given` to a Retry. Raises ValueError and TypeError as Retry does."""
    delay_s = _seconds(given, "Retry: the delay")
    if not 0 <= delay_s < math.inf:
        raise ValueError(f"Retry({delay_s:g}): the delay is in seconds, 0 or more")
    return delay_s


def _seconds(given: object, what: str) -> float:
    """A number of any class as seconds. Raises TypeError for other values, ValueError beyond a float's range."""
    if isinstance(given, timedelta):
        raise TypeError(f"{what} is a number of seconds, not a timedelta: give its total_seconds()")
    if not hasattr(type(given), "__float__") and not hasattr(type(given), "__index__"):
        raise TypeError(f"{what} is a number of seconds, not of type {type(given).__name__}")
    try:
        return float(given)  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError(f"{what} is a number of seconds, and this one is too large for any") from None


class Reject(Exception):
    """Raised by a handler: this message can never succeed. It is dead-lettered now, without further attempts."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class SoftTimeout(Exception):
    """Raised inside a handler after its `soft_timeout`, so that it can clean up; counts as a failed attempt."""


def record_group(pgid: int, output: Callable[[], str] | None = None) -> None:
    """Record a process group that a handler started in the worker's slot, so that it ends with the worker.

    `pgid`: the group's id, which is its leader's pid; 0 forgets it. `output`: returns the group's output so far; it is
    called at the hard time limit, from a signal handler, for the worker's exit record. Outside a worker this does
    nothing.
    """
    _recorder.output = output
    _recorder.call(pgid)


class _GroupRecorder:
    """Set once by the worker after its fork; without effect outside preforkd (in a unit test)."""

    def __init__(self) -> None:
        self.call: Callable[[int], None] = lambda pgid: None
        self.output: Callable[[], str] | None = None


_recorder = _GroupRecorder()


class _TraceContext:
    """Set once by the worker if a tracing library is installed: adds the trace context to a publication's headers."""

    def __init__(self) -> None:
        self.inject: Callable[[Message, dict[str, Any] | None], dict[str, Any] | None] | None = None


_context = _TraceContext()


class _Inboxes:
    """Makes a run's state of an inbox when its handler first uses one. A worker puts its own function here."""

    def __init__(self) -> None:
        self.make: Callable[[Message], InboxRun] = lambda message: InboxRun()

    def made_by(self, make: Callable[[Message], InboxRun]) -> None:
        """Use `make`, which knows what earlier attempts have done."""
        self.make = make


_inboxes = _Inboxes()


class RunLimit(Protocol):
    """The time limit of one run, kept by its worker."""

    def remaining_s(self) -> float:
        """Seconds until the hard limit ends the run."""

    def extend(self, seconds: float) -> None:
        """Move both limits by `seconds`. Raises ValueError if the run may not last that long, or has ended."""

    @property
    def is_over(self) -> bool:
        """Whether the handler has ended."""


class Message(msgspec.Struct, eq=False, weakref=True):
    """One message, as its handler gets it. Made by the worker; tests of a handler make one with `Message(b"…")`.

    `id`: the same in all runs of this message. `round`, `attempt`: number the runs from 1; a failed run leads to the
    next attempt, a message put back from the dead-letter queue to the next round. `redelivered`: the broker's flag.
    `maybe_duplicate`: the message has no id, and an earlier run of it cannot be ruled out. `publications`: collected by
    `publish`, for tests of handlers; `publications_bytes`: their size. `key`: 24 bytes that stand for vhost, queue, id
    and content, the same in all runs of this message; b"" outside a worker.
    """

    body: bytes
    id: str = ""
    properties: Properties = Properties()
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    round: int = 1
    attempt: int = 1
    redelivered: bool = False
    maybe_duplicate: bool = False
    publications: list[Publication] = []
    limit: RunLimit | None = None
    publications_bytes: int = 0
    key: bytes = b""
    inbox: InboxRun | None = None

    @property
    def fence(self) -> int:
        """A number that grows with each run of this message, by round and attempt; it fits into a bigint of SQL.

        A handler that writes only where no greater one was written is safe also against a late run of its own message.
        """
        return self.round << 32 | self.attempt

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers, {} if it has none."""
        return self.properties.headers or {}

    def text(self) -> str:
        """The body decoded as UTF-8. Raises UnicodeDecodeError."""
        return self.body.decode()

    def json(self) -> Any:
        """The body read as JSON. Raises ValueError (json.JSONDecodeError, UnicodeDecodeError)."""
        return json.loads(self.body)

    @property
    def deadline(self) -> datetime | None:
        """When the time limit ends this run: an aware wall-clock time in UTC; None outside a worker.

        It moves with `extend`, and when the wall clock is set; use `remaining_s` to plan.
        """
        return None if self.limit is None else datetime.now(UTC) + timedelta(seconds=self.limit.remaining_s())

    @property
    def remaining_s(self) -> float:
        """Seconds until the time limit ends this run, not below 0; infinite outside a worker."""
        return math.inf if self.limit is None else max(0.0, self.limit.remaining_s())

    def extend(self, seconds: SupportsFloat) -> None:
        """Move the hard and the soft limit of this run by `seconds`; outside a worker only checked.

        Raises ValueError, and changes nothing, if the run would then last longer than the pool's `max_timeout`, has
        ended, or `seconds` is not positive.
        """
        more_s = _seconds(seconds, "extend: the time")
        if not 0 < more_s < math.inf:
            raise ValueError(f"extend({more_s:g}): say by how many seconds, more than 0")
        if self.limit is not None:
            self.limit.extend(more_s)

    def publish(
        self,
        body: bytes | str,
        *,
        routing_key: str,
        exchange: str = "",
        properties: Properties | None = None,
        **fields: Any,
    ) -> None:
        """Publish a message once the handler has returned; dropped if it raises. Confirmed before this one is acked.

        `exchange` "" is the default exchange: `routing_key` is then the queue's name. `**fields` replace single
        `properties`, with the names of AMQP 0-9-1: `headers`, `content_type`, `message_id`, `type`, `priority` and so
        on. A str is sent as UTF-8. Messages are always persistent; `delivery_mode` is ignored.
        Raises TypeError for another body or an unknown keyword. Raises ValueError for a value that cannot be sent
        (handlers.md has the bounds of each), for more than `LARGEST_RUN_BYTES` in one run, and after the run has ended
        (in a thread that outlives the handler).
        """
        self._must_run()
        if not isinstance(body, bytes | str):
            raise TypeError(f"publish: the body must be bytes or str, not {type(body).__name__}")
        data = str.encode(body) if isinstance(body, str) else body if type(body) is bytes else bytes(memoryview(body))
        given = msgspec.structs.replace(properties or Properties(), **fields)
        if _context.inject is not None:
            given = msgspec.structs.replace(given, headers=_context.inject(self, given.headers))
        publication = _sendable(Publication(exchange, routing_key, given, data))
        self.publications_bytes = _added(self.publications_bytes, publication)
        self.publications.append(publication)
        self._must_run()  # the run may have ended meanwhile

    def inbox_run(self) -> InboxRun:
        """This run's use of an inbox, for `supervisor.inbox`. Raises InboxError in a worker once the run is over."""
        if self.inbox is None:
            self.inbox = _inboxes.make(self)
        return self.inbox

    def _must_run(self) -> None:
        if self.limit is not None and self.limit.is_over:
            raise ValueError("publish: the run of this message is over, so nothing is sent any more")
        if self.inbox is not None and (refusal := self.inbox.publish_refusal()):
            raise ValueError(f"publish: {refusal}")


def sendable_publications(given: object) -> list[Publication]:
    """The publications `given` by a handler, checked and in plain types. Raises ValueError for one that is invalid."""
    if not isinstance(given, list | tuple) or not all(isinstance(one, Publication) for one in given):
        raise ValueError("message.publications holds what no publish has made; use message.publish")
    if not all(type(one.body) is bytes for one in given):
        raise ValueError("message.publications holds a body that is not bytes; use message.publish")
    publications, total_bytes = [_sendable(one) for one in given], 0
    for publication in publications:
        total_bytes = _added(total_bytes, publication)
    return publications


def _sendable(publication: Publication) -> Publication:
    """The publication in plain types. Raises ValueError in the handler's own line, where the fault is."""
    try:
        return sendable(publication)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"publish: this cannot be sent: {error}") from error


def _added(total_bytes: int, publication: Publication) -> int:
    """The bytes that a run publishes in all, with one more publication."""
    total_bytes += weight_bytes(publication)
    if total_bytes > LARGEST_RUN_BYTES:
        raise ValueError(f"publish: with it this run would publish {total_bytes} bytes, at most {LARGEST_RUN_BYTES}")
    return total_bytes
