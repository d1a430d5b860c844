"""What the consumer holds in memory about a message in flight, and the diagnosis of a run that failed. Data only."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import msgspec

from supervisor.brokers.base import Delivery
from supervisor.brokers.names import delay_step_s
from supervisor.ledger.base import Row, RowState
from supervisor.link.frames import Incarnation, RunId

_STACK_END_CHARACTERS = 1000

EXPIRED = "expired"
HOST_LOST = "host_lost"
"""The cause of a run that another host had begun when an operator declared that host lost."""
UNRUN = frozenset({"missing_id", "unreadable", EXPIRED})
"""Causes of a dead letter that no handler has seen."""


class Phase(Enum):
    """Where a message in flight is."""

    WAITING = auto()  # delivered, without a worker; no row says DISPATCHED
    OWNED = auto()  # DISPATCHED: its worker has it, or is unheard of since we (re)started
    PUBLISHING = auto()  # its handler returned; what it published is under way
    HELD = auto()  # another daemon has it in hand, in a ledger that several share: it is claimed again later
    SAVING = auto()  # a copy of it is under way that its queue has not had back too often; then this one may go
    COPYING = auto()  # *_pending: its copy is under way, or waits for the body to come back

    @property
    def is_unassigned(self) -> bool:
        """Whether the message is here without a run: it can be given back at any time."""
        return self in (Phase.WAITING, Phase.HELD)


COPIED = (Phase.COPYING, Phase.SAVING)


class Failure(msgspec.Struct, frozen=True):
    """Why a run failed, as copies, logs and ledger notes tell it. `cause`: an OutcomeKind or an exit's Cause."""

    cause: str
    reason: str
    worker: str = ""
    stack: str = ""
    status: int | None = None
    signal: str | None = None
    delay_s: float = 0.0  # of the retry copy
    at_s: float = 0.0
    pending: str = ""  # the state of a row that is GONE, before
    lost: str = ""  # of a row that is GONE: how its retry copy was lost, until that is mended or let go
    database: bytes = b""  # the identity of the database whose inbox the run used
    earlier: Earlier | None = None  # what the next attempt is to know, where that is anything

    @property
    def how(self) -> str:
        """The cause, with signal or status where there is one, and the worker: `crash (SIGSEGV), email/0`."""
        how = self.signal or ("" if self.status is None else f"status {self.status}")
        cause = f"{self.cause} ({how})" if how else self.cause
        return f"{cause}, {self.worker}" if self.worker else cause

    @property
    def ran(self) -> bool:
        """Whether there was a run."""
        return self.cause not in UNRUN

    def after(self, attempt: int) -> str:
        """When in its life the message of this `attempt` ended, for people."""
        return f"after attempt {attempt}" if self.ran else f"without a run: {self.reason}"

    @property
    def waits_s(self) -> float | None:
        """How long the retry copy really waits: as the ladder has it, 7 days at most. None: no delay."""
        return delay_step_s(self.delay_s) if self.delay_s else None

    @property
    def in_short(self) -> Failure:
        """With only the two ends of a long stack: for rows that are kept long after their copy was made."""
        if len(self.stack) <= 2 * _STACK_END_CHARACTERS:
            return self
        ends = self.stack[:_STACK_END_CHARACTERS], self.stack[-_STACK_END_CHARACTERS:]
        return msgspec.structs.replace(self, stack="\n[… cut …]\n".join(ends))


class Earlier(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an attempt knows of earlier ones of its round: it travels with their copies, and is in its row.

    `deaths`: attempts whose worker died. `database`: as in `Failure`, of the last attempt that used an inbox.
    `given_up`: the death that used up the attempts. An attempt with it only asks its inbox whether another one has
    committed; `attempts`: so many there were then.
    """

    deaths: int = 0
    database: bytes = b""
    given_up: Failure | None = None
    attempts: int = 0

    def with_run(self, died: bool, database: bytes) -> Earlier:
        """The same after one more attempt."""
        return Earlier(self.deaths + died, database or self.database)

    @property
    def told(self) -> str:
        """Why the message has no attempt left, for its worker; "" if it has."""
        if self.given_up is None:
            return ""
        return f"{self.attempts} attempt{'s'[: self.attempts != 1]}, the last: {self.given_up.how}"

    @property
    def note(self) -> Failure | None:
        """What the row of an attempt says of this; None for nothing."""
        return None if self is NONE_EARLIER or self == NONE_EARLIER else Failure("", "", earlier=self)


NONE_EARLIER = Earlier()
"""A round's first attempt knows this, and each one of a daemon that used no inbox."""


def failure_of(row: Row) -> Failure:
    """The diagnosis on record."""
    return msgspec.msgpack.decode(row.note, type=Failure) if row.note else Failure("failed", "no reason on record")


class Expiry(msgspec.Struct, frozen=True):
    """When the time of a message that no worker has begun is over, by which statement of its publisher.

    `due_s`: CLOCK_BOOTTIME. `stated_s`: the publisher's wall clock, of the publication; without `max_wait_s` of the end
    itself. `stamped`: whether the publisher said when that was.
    """

    due_s: float
    stated_s: float
    max_wait_s: float = 0.0
    stamped: bool = True


class Entry(msgspec.Struct, eq=False):
    """One message in flight, and the run that it stands for.

    `key`, `id`: of the message; `round`, `attempt`: of the run, both from 1. `delivery` is None after a restart, until
    the broker brings the message back.
    """

    key: bytes
    id: str
    round: int
    attempt: int
    run: RunId = RunId(b"", 0, 0)
    phase: Phase = Phase.WAITING
    delivery: Delivery | None = None
    tags: list[tuple[int, int]] = []  # (epoch, tag): the same message may be out more than once
    later: list[Arrival] = []  # newer runs, or what may be its repetition: they wait until this one is over
    owner: Incarnation | None = None
    has_id: bool = True
    maybe_duplicate: bool = False
    pending: RowState | None = None
    failure: Failure | None = None
    token: int | None = None  # of the copy under way
    unconfirmed: set[int] | None = None  # tokens of what its handler published; None: nothing yet
    likeness: bytes = b""
    worn: bool = False  # its queue may drop it when it comes back once more: it is never given back
    published_s: float = 0.0  # when what its handler published was sent first, in this epoch
    missing_since_s: float | None = None  # it has not come back to an empty queue
    earlier: Earlier = NONE_EARLIER
    expiry: Expiry | None = None  # of a message that has certainly not begun
    holder: str = ""  # the host and the epoch that have it in hand, while it is held

    @classmethod
    def of(cls, run: Arrival | Row) -> Entry:
        """The message of a delivery or a row, and the `run` that this stands for."""
        return cls(run.key, run.id, run.round, run.attempt)

    def __post_init__(self) -> None:
        self.run = RunId(self.key, self.round, self.attempt)


class Arrival(msgspec.Struct, frozen=True):
    """A delivery as the settlement sees it: identified and placed in the order of runs.

    `likeness`: what makes a message without an id recognisable after a connection loss (b"" where it has an id).
    `unreadable`: why it cannot be given to a handler. `expires`: the value of the header `EXPIRES`, None without it.
    """

    delivery: Delivery
    key: bytes
    id: str
    has_id: bool
    round: int
    attempt: int
    stamped: bool  # carries our own, trusted headers
    likeness: bytes = b""
    worn: bool = False  # it has come back so often that its queue may soon drop it (`delivery_limit.py`)
    repeats: bool = False  # it is a copy of a message without an id that may be a repetition
    unreadable: str = ""
    earlier: Earlier = NONE_EARLIER
    expires: Any = None

    @property
    def may_repeat(self) -> bool:
        """Whether a message without an id may have been delivered before."""
        return not self.has_id and (self.delivery.redelivered or self.repeats)

    @property
    def tag(self) -> tuple[int, int]:
        """(epoch, tag), by which it is settled: tags begin at 1 again in every epoch."""
        return self.delivery.epoch, self.delivery.tag


def unfit(arrival: Arrival, missing_id: str) -> Failure | None:
    """Why this message can be given to no handler, None where it can. `missing_id`: as in the configuration."""
    if not arrival.has_id and missing_id == "dead_letter":
        return Failure("missing_id", "the message has no id")
    return Failure("unreadable", arrival.unreadable) if arrival.unreadable else None
