"""What a handler sees: the message, and the three things it can raise. Runs in workers; imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from supervisor.message import Properties, Publication


class Retry(Exception):
    """Raised by a handler: run this message again, `delay_s` seconds from now (None: the pool's `retry_delays`)."""

    def __init__(self, delay_s: float | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.delay_s = delay_s
        self.reason = reason


class Reject(Exception):
    """Raised by a handler: this message can never succeed; dead-letter it now, without further attempts."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class SoftTimeout(Exception):  # noqa: N818  (the published name)
    """Raised inside a handler when its `soft_timeout` is over, so that it can clean up; counts as a failed attempt."""


def record_group(pgid: int) -> None:
    """Put a process group that a handler started on record in the worker's slot, so that it ends with the worker.

    `pgid`: the group's id, which is its leader's pid; 0 forgets it. Outside a worker this does nothing.
    """
    _recorder.call(pgid)


class _GroupRecorder:
    """Set once by the worker after its fork; a handler run outside preforkd (in a unit test) has none."""

    def __init__(self) -> None:
        self.call: Callable[[int], None] = lambda pgid: None


_recorder = _GroupRecorder()


class Message:
    """One message, as its handler gets it. Made by the worker; handlers' own tests may make one, too."""

    def __init__(
        self,
        body: bytes,
        *,
        id: str = "",
        properties: Properties | None = None,
        queue: str = "",
        round: int = 1,
        attempt: int = 1,
    ) -> None:
        self.body = body
        self.id = id
        self.properties = properties or Properties()
        self.queue = queue
        self.exchange = ""
        self.routing_key = queue
        self.round = round
        self.attempt = attempt
        self.redelivered = False
        self.maybe_duplicate = False
        self.publications: list[Publication] = []

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers, {} where it has none."""
        return self.properties.headers or {}

    def text(self) -> str:
        """The body decoded as UTF-8. Raises UnicodeDecodeError."""
        return self.body.decode()

    def json(self) -> Any:
        """The body read as JSON. Raises ValueError (json.JSONDecodeError, UnicodeDecodeError)."""
        return json.loads(self.body)
