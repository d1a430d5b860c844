"""Who the master's children are, and where children are wanted. Bookkeeping of the master, without system calls.

A `ChildSpec` is a place where a child is wanted (a worker's slot, a pool's forkserver, its consumer); a `Child` is one
process that has it. Wanted is not actual, and up is not ready: each of these is a field of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from supervisor.link.frames import Frame
from supervisor.master.pool.wire import Wire
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import Intent


class Kind(StrEnum):
    """The kinds of children; published in exit records."""

    WORKER = "worker"
    FORKSERVER = "forkserver"
    CONSUMER = "consumer"
    WEB = "web"
    HOOKS = "hooks"


SIDECARS = (Kind.WEB, Kind.HOOKS)
"""Kinds that belong to the daemon and to no pool (""): nothing depends on them."""


@dataclass
class Child:
    """One process of ours. `started_s` and `ready_s` are CLOCK_MONOTONIC; `ticks` makes the pid an identity.

    `requested_by` says what made it leave ("" for nothing), `intent` what the master did to it. A worker's intent is
    in its slot, too, where it outlives the master. `origin`: the generation of the forkserver that a worker is of.
    `unkillable`: why no signal reaches it, "" when one does; `killed_s`: when SIGKILL was sent first. `wire`: its
    channel; workers have none. `slot_file`: a worker's. `dump`: the file to which it dumps its stacks.
    """

    pool: str
    kind: Kind
    slot: int | None
    pid: int
    ticks: int
    generation: int
    started_s: float
    ready_s: float | None = None
    intent: Intent = Intent.NONE
    requested_by: str = ""
    origin: int = 0
    unkillable: str = ""
    killed_s: float | None = None
    wire: Wire | None = field(default=None, compare=False, repr=False)
    slot_file: Slot | None = field(default=None, compare=False, repr=False)
    dump: Path | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The one spelling of a child everywhere: `email/3`, `email forkserver`."""
        return child_name(self.pool, self.kind, self.slot)

    def became_ready(self, now_s: float) -> None:
        """The process has said that it is ready."""
        self.ready_s = now_s

    def mark(self, intent: Intent, requested_by: str) -> None:
        """Write down what is about to be done to the process and who requested it; for good in a worker's slot."""
        self.intent, self.requested_by = intent, requested_by
        if self.slot_file is not None:
            self.slot_file.write_intent(intent, self.generation)

    def blame(self, reason: str) -> None:
        """Write down why the process is ended where its slot cannot be written."""
        self.requested_by = reason

    @property
    def runs(self) -> bool:
        """Whether a worker runs a message."""
        return self.slot_file is not None and self.slot_file.running() is not None

    def killed(self, now_s: float) -> None:
        """SIGKILL was sent; the first time counts."""
        self.killed_s = self.killed_s or now_s

    def cannot_be_signalled(self, why: str) -> None:
        """No signal reaches the process."""
        self.unkillable = why

    def connect(self, wire: Wire) -> None:
        """Take the channel to this process."""
        self.wire = wire

    def send(self, *frames: Frame) -> None:
        """Queue frames; nothing happens where there is no channel."""
        if self.wire is not None:
            self.wire.send(*frames)

    def disconnect(self) -> None:
        """The process is dead: read what it still said."""
        if self.wire is not None:
            self.wire.close()


@dataclass
class ChildSpec:
    """A place where a child is wanted.

    `ordered`: the generation of a worker that was ordered and is not known to be there; `origin`: that of the
    forkserver it was last ordered from. `due_s`: when the next start is due (CLOCK_MONOTONIC), None while nothing is to
    be started. `deaths`: consecutive ones without any progress. `held`: given up, until a child here has made
    progress; `on_probation`: tried again after a hold, the next such death holds it at once. `incurable`: what the
    last one died of must be repaired by an operator. `stack`: of a forkserver's failed import.
    """

    pool: str
    kind: Kind
    slot: int | None = None
    child: Child | None = None
    ordered: int | None = None
    origin: int = 0
    due_s: float | None = None
    deaths: int = 0
    restarts: int = 0
    held: bool = False
    on_probation: bool = False
    incurable: bool = False
    why: str = ""
    stack: str = ""

    @property
    def name(self) -> str:
        """As its child is called."""
        return child_name(self.pool, self.kind, self.slot)

    @property
    def ready(self) -> bool:
        """Whether its child is there and ready."""
        return self.child is not None and self.child.ready_s is not None

    @property
    def empty(self) -> bool:
        """Whether it has no child, and none was ordered for it."""
        return self.child is None and self.ordered is None

    def order(self, generation: int, origin: int) -> None:
        """A worker of this generation is ordered from the forkserver of generation `origin`."""
        self.ordered, self.origin, self.due_s = generation, origin, None

    def started(self, child: Child) -> None:
        """This child is there."""
        self.child, self.ordered, self.due_s = child, None, None

    def not_started(self, due_s: float, why: str | None = None) -> None:
        """There is no child; the next start is due then. `why`: None leaves the reason as it is."""
        self.ordered, self.due_s = None, due_s
        self.why = self.why if why is None else why

    def report(self, why: str, stack: str = "") -> None:
        """What the child says of itself; "" when it is well."""
        self.why, self.stack = why, stack or self.stack

    def ended(self, why: str | None, incurable: bool = False) -> None:
        """The child is dead. `why`: None leaves the reason as it is."""
        self.child, self.incurable = None, incurable
        self.why = self.why if why is None else why

    def not_replaced(self) -> None:
        """The dead child is not replaced."""
        self.deaths, self.due_s = self.deaths + 1, None

    def replaced(self, due_s: float | None) -> None:
        """The dead child is replaced then; None for not at all."""
        self.restarts, self.due_s = self.restarts + 1, due_s

    def count_death(self) -> None:
        """A child has died without progress."""
        self.deaths += 1

    def hold(self) -> None:
        """Too many children have died: the next start is a trial."""
        self.held = self.on_probation = True

    def start_at(self, due_s: float) -> None:
        """The next start is due then."""
        self.due_s = due_s

    def succeed(self, former: ChildSpec) -> None:
        """Go on counting restarts where the former place left off."""
        self.restarts = former.restarts

    def progressed(self) -> None:
        """Former deaths do not count any more."""
        self.deaths, self.held, self.on_probation = 0, False, False

    def clear(self) -> None:
        """What went wrong here does not count any more: its child has made progress."""
        self.progressed()
        self.why = ""

    def forgive(self) -> None:
        """Forget the deaths and start at once: the next child has other code, or other settings."""
        self.clear()
        if self.empty:
            self.due_s = 0.0


@dataclass(frozen=True)
class Plan:
    """Which children a pool is to have, beside what its configuration says.

    Immutable: a reload, and the scaling after it, replace the plan of a pool. The plan without fields is the rule.

    `candidate`: a forkserver with new code, on trial beside the present one. `canary`: the slot of the worker that
    proves new code. `spares`: slots beyond the wanted number of workers that are filled during a replacement.
    `on_trial`: the pool is new, and only its code is tried. `consumer_leaves`: the consumer drains and is replaced.
    """

    candidate: ChildSpec | None = None
    canary: int | None = None
    spares: frozenset[int] = frozenset()
    on_trial: bool = False
    consumer_leaves: bool = False


class Children:
    """All living children by pid."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    def __contains__(self, pid: int) -> bool:
        return pid in self._by_pid

    def get(self, pid: int) -> Child | None:
        """The child with this pid."""
        return self._by_pid.get(pid)

    def add(self, child: Child) -> None:
        """Take a new child into the books."""
        self._by_pid[child.pid] = child

    def remove(self, pid: int) -> Child | None:
        """Strike a dead child; None when it was not ours."""
        return self._by_pid.pop(pid, None)

    def of_kind(self, kind: Kind) -> list[Child]:
        """All living children of one kind."""
        return [child for child in self._by_pid.values() if child.kind is kind]


def child_name(pool: str, kind: Kind, slot: int | None) -> str:
    """`email/3` for a worker, `email forkserver` for the others of a pool, `web` for a sidecar."""
    return f"{pool}/{slot}" if kind is Kind.WORKER else f"{pool} {kind}".strip()
