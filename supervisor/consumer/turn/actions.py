"""What the settlement wants said, recorded and, once that is durable, done. Data only; `effects.py` carries it out."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.brokers.base import Outgoing
from supervisor.ledger.base import Row
from supervisor.link.frames import ConsumerFrame, Incarnation
from supervisor.logs.events import Event


class Ack(msgspec.Struct, frozen=True):
    """Settle this delivery for good. `likeness`: as of its `Arrival`."""

    epoch: int
    tag: int
    likeness: bytes = b""


class Requeue(msgspec.Struct, frozen=True):
    """Return this delivery to its queue."""

    epoch: int
    tag: int


class Send(msgspec.Struct, frozen=True):
    """Send a frame to a worker; lost silently when its link is gone (its hello or exit notice will tell)."""

    worker: Incarnation
    frame: ConsumerFrame


class RecallAll(msgspec.Struct, frozen=True):
    """Ask all workers for what they have not begun; after what was decided to be sent to them before."""


class PublishOut(msgspec.Struct, frozen=True):
    """Publish; the fate comes back under its token."""

    outgoing: Outgoing


class PublishLater(msgspec.Struct, frozen=True):
    """Ask for `publish_again(token)` after about `delay_s`: the broker did not take it."""

    token: int
    delay_s: float


class Say(msgspec.Struct, frozen=True):
    """Write a log event; before the commit, so that a crash may repeat a line but never swallow one (I5)."""

    event: Event
    text: str
    fields: dict[str, Any]
    warning: bool = False


Effect = Ack | Requeue | Send | RecallAll | PublishOut | PublishLater


class Turn(msgspec.Struct, frozen=True):
    """What one loop turn decided: what is said, then rows and counters for one commit. Its effects follow that."""

    said: list[Say]
    rows: dict[bytes, Row]
    counters: dict[str, int]

    def drop(self, key: bytes) -> None:
        """The ledger has refused the row with this key."""
        del self.rows[key]
