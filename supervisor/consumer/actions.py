"""What the settlement wants said, recorded and, once that is durable, done. Data only; `session.py` carries it out."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.brokers.base import Outgoing
from supervisor.events import Event
from supervisor.ledger.base import Row
from supervisor.link.frames import ConsumerFrame, Incarnation


class Ack(msgspec.Struct, frozen=True):
    """Settle this delivery for good."""

    epoch: int
    tag: int


class GiveBack(msgspec.Struct, frozen=True):
    """Return this delivery to its queue."""

    epoch: int
    tag: int


class Send(msgspec.Struct, frozen=True):
    """Send a frame to a worker; lost silently when its link is gone (hello or verdict will tell)."""

    worker: Incarnation
    frame: ConsumerFrame


class PublishOut(msgspec.Struct, frozen=True):
    """Publish; the fate comes back under its token."""

    outgoing: Outgoing


class PublishLater(msgspec.Struct, frozen=True):
    """Ask for `publish_again(token)` after a while: the broker did not take it."""

    token: int


class Say(msgspec.Struct, frozen=True):
    """Write a log event; before the commit, so that a crash may repeat a line but never swallow one (I5)."""

    event: Event
    text: str
    fields: dict[str, Any]
    warning: bool = False


Effect = Ack | GiveBack | Send | PublishOut | PublishLater


class Turn(msgspec.Struct, frozen=True):
    """All that one loop turn decided: what is said, rows and counters for one commit, then the effects in order."""

    said: list[Say]
    rows: dict[bytes, Row]
    counters: dict[str, int]
    effects: list[Effect]
