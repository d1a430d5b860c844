"""What a modelled world around the settlement is made of. Data only."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import msgspec

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Delivery, Outgoing
from supervisor.consumer.settlement.messages import Failure
from supervisor.link.frames import RunId
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind

T = TypeVar("T")

QUEUE = "q"
AUDIT_QUEUE = "audit"
DATABASE = b"0123456789abcdef"
DEATH = Failure("killed", "its worker was killed")
LOST = Failure("lost", "its worker died")
FAILED = Failure("failed", "the handler raised")
UNDONE = Failure("reject", "no earlier attempt has committed")
FAILURES = {
    OutcomeKind.IN_DOUBT: LOST,
    OutcomeKind.REJECT: UNDONE,
    OutcomeKind.PUBLISH_FAILED: Failure("publish_failed", "no queue"),
}
"""What an outcome in a ring says; any other is FAILED."""
_KEPT = frozenset(
    {copy_headers.QUEUE, copy_headers.ROUND, copy_headers.ATTEMPT, copy_headers.REPEATS, copy_headers.EARLIER}
)
_ROUNDS = frozenset({copy_headers.FORMER, f"{copy_headers.PREFIX}cause"})
_TABLES = frozenset({copy_headers.EARLIER, copy_headers.FORMER})
EXPIRES_S = 2e9  # in the header of messages that expire


def audit(run: RunId) -> Publication:
    """What the handler of a run publishes."""
    return Publication("", AUDIT_QUEUE, Properties(), repr(run).encode())


def key_of(id: str, body: bytes) -> bytes:
    """A message's key in the ledger."""
    return id.encode() + body.rjust(8, b"/")  # a digest's length


def former_runs(laws: Laws) -> list[RunId]:
    """The runs that were over when the world began."""
    keys = [key_of(f"id-{i}", body) for i, body in enumerate(laws.bodies)]
    return [RunId(key, 1, attempt + 1) for key in keys for attempt in range(laws.deaths)]


def shallow(original: T) -> T:
    """Another object with the same attributes: as `copy.copy` makes it, in a fraction of its time."""
    other = object.__new__(type(original))
    vars(other).update(vars(original))
    return other


class Broken(AssertionError):
    """An invariant does not hold in this world."""


class Laws(NamedTuple):
    """What a world is like. `bodies`: one message each; `ids`: whether they have one."""

    bodies: tuple[bytes, ...] = (b"a", b"b")
    ids: bool = True
    workers: int = 2
    room: int = 2  # messages a worker may have at once
    publishes: bool = False  # handlers publish before they are done
    on_crash: str = "retry"
    max_attempts: int = 2
    faults: int = 2
    together: int = 1  # events that one turn may hear of
    delivery_limit: int | None = None  # the queue drops what it has had back more often
    slow_disk: bool = False  # further turns hear of events while one is committed
    window: int = 1000  # deliveries that may be unsettled at a time
    refuses: tuple[str, ...] = ()  # queues that take nothing, until `reopen`
    deaths: int = 0  # attempts that have ended with their worker before the world begins
    committed: bool = False  # the last of them had committed
    rival: bool = False  # another daemon takes messages, each of which is in the queue twice
    neighbour: bool = False  # another daemon takes messages, with a ledger of its own
    expires: bool = False  # messages are of no use once it is late, if no worker has begun them

    def repeats(self, run: RunId, former: RunId) -> bool:
        """Whether two runs without an id are of one message: nothing tells where another is like it."""
        body = run.key.rpartition(b"/")[2]
        alone = not self.ids and self.bodies.count(body) == 1
        return alone and run.round == former.round and former.key.endswith(b"/" + body)


class Event(NamedTuple):
    """One thing that can happen, with what it happens to. `crash_after`: steps of its turn before the consumer dies."""

    name: str
    what: int = 0
    crash_after: int | None = None


class Copy(NamedTuple):
    """A message as the broker has it."""

    body: bytes
    id: str | None
    headers: tuple[tuple[str, object], ...] = ()
    redelivered: bool = False
    count: int = 0  # how often the queue has had it back

    @classmethod
    def of(cls, outgoing: Outgoing, with_rounds: bool = False) -> Copy:
        """What the broker has once it has taken a publication. `with_rounds`: also what tells of former rounds."""
        headers = (outgoing.properties.headers or {}).items()
        kept = tuple(
            (name, msgspec.msgpack.encode(value) if name in _TABLES else value)
            for name, value in headers
            if name in _KEPT or (with_rounds and name in _ROUNDS)
        )
        return cls(outgoing.body, outgoing.properties.message_id, kept)

    def delivered(self, epoch: int, tag: int) -> Delivery:
        """It comes from the queue."""
        headers: dict[str, Any] = dict(self.headers)
        for name in _TABLES & headers.keys():
            headers[name] = msgspec.msgpack.decode(headers[name])
        properties = Properties(headers=headers or None, message_id=self.id)
        return Delivery(epoch, tag, "", QUEUE, self.redelivered, properties, self.body)


class Flight(NamedTuple):
    """A publication under way; `accepted`: the broker has it, its confirm is under way."""

    outgoing: Outgoing
    accepted: bool = False


class SlotModel:
    """A worker's slot, its marks, and what the worker that has it now holds."""

    def __init__(self) -> None:
        self.generation = 1
        self.alive = True
        self.linked = False  # said hello to the present consumer
        self.held: tuple[RunId, ...] = ()
        self.returning: tuple[RunId, ...] = ()  # given back unbegun, the consumer has not heard
        self.running: RunId | None = None
        self.publishing = False
        self.used = False  # its run has been in its inbox
        self.ring: tuple[tuple[RunId, OutcomeKind, int], ...] = ()
        self.tail = 0
        self.taken = 0
        self.exit_notices: tuple[int, ...] = ()  # generations whose exit notice the consumer has not taken

    def clone(self) -> SlotModel:
        """Another one, in the same state."""
        return shallow(self)

    def mark(self, kind: OutcomeKind) -> RunId:
        """The present run is over."""
        assert self.running is not None
        run = self.running
        self.ring += ((run, kind, self.generation),)
        self.running, self.publishing = None, False
        return run

    def respawn(self) -> None:
        """A new worker takes the slot; what the dead one was at is in doubt."""
        if self.running:
            self.mark(OutcomeKind.IN_DOUBT)
        self.generation += 1
        self.alive = True

    def unlink(self) -> None:
        """Its link is lost, and with it what was under way on it."""
        self.linked = False
        self.returning = ()

    def die(self) -> None:
        """Its worker dies."""
        self.unlink()
        self.alive = self.publishing = False
        self.held = ()

    def lose_power(self, keeps_marks: bool) -> None:
        """The machine dies; whether marks reached the disk is chance."""
        self.die()
        self.exit_notices = ()
        if not keeps_marks:
            self.ring, self.running = self.ring[: self.tail], None

    @property
    def may_finish(self) -> bool:
        """Whether its handler runs."""
        return self.alive and self.running is not None and not self.publishing

    @property
    def may_greet(self) -> bool:
        """Whether its worker can say hello: between two runs, and after the exit notice of its predecessor."""
        return self.alive and not self.linked and not self.exit_notices and not self.may_finish

    @property
    def state(self) -> tuple[object, ...]:
        """All that matters about it."""
        return tuple(vars(self).values())
