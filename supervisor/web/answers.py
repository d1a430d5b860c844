"""What the API answers, as types: endpoints make them, and /openapi.json is generated from them. Data only.

The status object, and what the daemon answers to orders, are in `control/results.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from supervisor.brokers.copy_headers import FORMER_CHARACTERS, FORMER_ROUNDS, PREVIEW_BYTES
from supervisor.control.results import Time
from supervisor.exit_history import ExitShape


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all."""


class Error(Answer, frozen=True):
    """Any answer that is an error."""

    error: Annotated[str, Meta(description="What was wrong, where, what to do.")]
    since: Annotated[Time | UnsetType, Meta(description="Since when the daemon has not answered.")] = UNSET
    missing: Annotated[list[str] | UnsetType, Meta(description="Ids that were not found.")] = UNSET


class Alive(Answer, frozen=True):
    """The web child lives."""

    ok: bool = True


class Ready(Answer, frozen=True):
    """Whether the daemon does its work."""

    ready: bool
    why: Annotated[list[str] | UnsetType, Meta(description="A line for each reason, for those who may read.")] = UNSET


class Exit(ExitShape, kw_only=True):
    """An exit record; docs/exits.md has all of its fields."""

    at: Time
    kind: str
    pool: str
    cause: str


class Exits(Answer, frozen=True):
    """Exit records, newest first."""

    exits: list[Exit]


class Series(Answer, frozen=True):
    """How many exits there were in each of equal steps of time."""

    start: Time = msgspec.field(name="from")
    bucket_s: float
    causes: Annotated[dict[str, list[int]], Meta(description="A number for each step, by cause.")]


class Ended(Answer, frozen=True):
    """How a round of a message ended."""

    cause: str
    reason: str
    attempts: int | None
    status: int | None
    signal: str | None
    worker: str
    at: str
    stack: str


class FormerRound(Ended, frozen=True):
    """How a round before the present one ended, in short."""

    round: int | None
    reason: Annotated[str, Meta(description=f"Its first {FORMER_CHARACTERS['reason']} characters.")]
    stack: Annotated[str, Meta(description=f"Its last {FORMER_CHARACTERS['stack']:,} characters.")]


class Letter(Ended, frozen=True):
    """A dead or parked message."""

    number: Annotated[int, Meta(description="Its place in the queue, from 1.")]
    id: str
    former: Annotated[list[FormerRound], Meta(max_length=FORMER_ROUNDS, description="Former rounds, oldest first.")]
    headers: Annotated[dict[str, Any], Meta(description="The sender's own headers.")]
    body_preview: Annotated[
        str, Meta(description=f"Its first {PREVIEW_BYTES:,} bytes, as text where it is UTF-8, else in hexadecimal.")
    ]
    body_bytes: int


class Letters(Answer, frozen=True):
    """The oldest dead or parked messages of a pool."""

    letters: list[Letter]
    total: Annotated[int, Meta(description="How many messages were in the queue.")]
    at: Annotated[Time, Meta(description="When the queue was read.")]


class Moved(Answer, frozen=True):
    """Messages that are in their pool's queue again."""

    moved: int
    missing: Annotated[list[str], Meta(description="Ids that were not found.")]


class Dropped(Answer, frozen=True):
    """Messages that were deleted."""

    dropped: int
    missing: Annotated[list[str], Meta(description="Ids that were not found.")]


class Reloading(Answer, frozen=True):
    """A reload that goes on."""

    reloading: bool = True
