"""What the consumer asks of its ledger. A row is a message's last known state; it decides what a delivery means."""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import NamedTuple

import msgspec

from supervisor.ledger.witness import Mark


class RowState(StrEnum):
    """Where a message is. `*_pending`: decided, its copy not yet confirmed. RETURNED: given back unstarted.
    GONE: decided, and the message was in its queue no more, so that no copy could be made.

    `open`: whether something is still to be done for the message. Such rows are never evicted.
    """

    open: bool

    DISPATCHED = "dispatched", True
    RETURNED = "returned", False
    DONE = "done", False
    RETRY_PENDING = "retry_pending", True
    RETRY = "retry", False
    DEAD_PENDING = "dead_pending", True
    DEAD = "dead", False
    PARKED_PENDING = "parked_pending", True
    PARKED = "parked", False
    GONE = "gone", False

    def __new__(cls, value: str, open: bool) -> RowState:
        """A member: its value is the word alone."""
        member = str.__new__(cls, value)
        member._value_, member.open = value, open
        return member


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One message in the ledger.

    `key`: 24 bytes, 16 of the scoped id and 8 of the content digest (`supervisor.messages.identity`). `epoch`, `slot`,
    `generation`: the owner. An epoch is one ledger of one pool in one boot of the machine (`Ledger.epoch`); slot and
    generation are those of the worker that got the message (DISPATCHED). `note`: why the last run failed (msgpack of a
    Failure), for its copy and for `preforkd why`; empty where it did not. `at_s`: the ledger's time (`Ledger.now_s`)
    of the last change.
    """

    key: bytes
    round: int
    attempt: int
    state: RowState
    slot: int
    generation: int
    at_s: float
    id: str = ""
    note: bytes = b""
    epoch: int = 0  # the last one: rows that were written before it was added are read with this value


class Rival(NamedTuple):
    """Another owner's row that is in the way of one of ours.

    `host`: the machine of its owner. `lost`: an operator has declared that owner lost; its open rows are decided by
    the daemon that has the message in hand.
    """

    row: Row
    host: str = ""
    lost: bool = False


class Result(NamedTuple):
    """What became of a request. `refused`: the keys of which nothing was written, with what was in the way."""

    refused: Mapping[bytes, Rival]


GRANTED = Result({})
"""Nothing was in the way."""


class Damaged(Exception):
    """What is stored contradicts itself, or was never written."""


class Ledger(ABC):
    """Durable, guarded by a lock against a second user. Any method may raise LedgerError: reopen it then.

    `found`: the mark that it had when it was opened.
    """

    found: Mark

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """What it keeps on this host while it is open. A deleted or replaced one means that the ledger is lost."""

    @property
    @abstractmethod
    def epoch(self) -> int:
        """The epoch of all rows that are written now. The worker of an open row of another epoch was started before the
        machine booted: its slot's marks prove nothing."""

    @property
    @abstractmethod
    def now_s(self) -> float:
        """The ledger's own time: elapsed seconds, whatever the machine's clock is set to, also while it is closed (but
        not while the machine is off). Begins at the wall clock's; the times of rows and their ages are of this one."""

    @property
    @abstractmethod
    def mark(self) -> Mark:
        """Which ledger this is, and how far it has come."""

    @property
    @abstractmethod
    def doubtful(self) -> bool:
        """Whether it may have forgotten what was done: a message that it does not know may have run before."""

    @abstractmethod
    def doubt(self, until_s: float) -> None:
        """Be doubtful until then, as `now_s` counts; also when it is opened again."""

    @abstractmethod
    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        """For each of `keys` the rows with the same id part (first 16 bytes): the exact one and reuses of the id."""

    @abstractmethod
    def open_rows(self) -> Iterable[Row]:
        """All rows whose state is open, oldest first."""

    @abstractmethod
    def settled_before(self, place: int | None, since_s: float) -> tuple[list[Row], int | None]:
        """A bounded piece of the closed rows, the last written first: from `place` on (None: from the end), and the
        place of the next piece. None for it: there are no more that were changed at `since_s` or later (as `now_s`
        counts). Of one message there may be several, of which the first counts."""

    @abstractmethod
    def submit(self, rows: Mapping[bytes, Row], counters: Mapping[str, int]) -> None:
        """Begin one request, all of it in one transaction: write `rows`, given by key, and add to `counters`.

        A row is refused where another owner's row with its key is open, is of a later run, or is of the same run and
        not RETURNED; also where that is DONE in the same round. Nothing is written of it then. So a row DISPATCHED is a
        claim, and only messages whose claim was granted may be sent to workers. What a lost owner has begun is decided
        here: a `*_PENDING` row of the same run takes the place of its open row, and any row of a later run does. A
        `*_PENDING` row also follows a GONE one of the same run: that owner had decided, and had no body to copy.

        A request ends before the next one is submitted. `look_up` sees claims once they are granted, and so a decision
        about a message that was not begun here; all other rows from now on. They survive the process from then on, and
        a power loss once there are `results`.
        """

    @abstractmethod
    def results(self) -> Result | None:
        """What became of the last request, once it is durable; None before. Never blocks."""

    @abstractmethod
    def fileno(self) -> int | None:
        """A descriptor that is readable when there may be `results`. None: there are always results at once."""

    def attend(self) -> None:  # noqa: B027  (most ledgers have nothing to do)
        """Do what is due without a request; called in each turn of the loop. Never blocks."""

    @property
    def begins_until_s(self) -> float:
        """Until when a run may begin on this host (CLOCK_BOOTTIME): later, another host may decide about its messages
        before a run begun then has ended."""
        return inf

    @property
    def holds_until_s(self) -> float:
        """Until when no other host decides that this one is lost (CLOCK_BOOTTIME)."""
        return inf

    @property
    def waits_for(self) -> str:
        """What a request that takes long waits for, for people."""
        return "the disk is slow"

    def commit(self, rows: Iterable[Row], counters: Mapping[str, int]) -> Result:
        """Submit a request with `rows` and `counters`, and wait for its results."""
        self.submit({row.key: row for row in rows}, counters)
        return self._wait_for_results()

    def _wait_for_results(self) -> Result:
        poll = select.poll()
        if (descriptor := self.fileno()) is not None:
            poll.register(descriptor, select.POLLIN)
        while (result := self.results()) is None:
            poll.poll()
        return result

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """The counters since the ledger was made."""

    @abstractmethod
    def evict(self, older_than_s: float, keep_max: int) -> tuple[int, int]:
        """Forget a bounded batch of closed rows: those last changed before `older_than_s` (as `now_s` counts), then
        the oldest beyond `keep_max` rows. Returns (aged out, evicted early because of keep_max); again while either is
        > 0."""

    @abstractmethod
    def size(self) -> tuple[int, int]:
        """How many rows it has, and how many bytes its files. A message has one row for each time that it was settled,
        and one while it is open."""

    @abstractmethod
    def close(self) -> None:
        """Give up files and lock. A second call does nothing."""

    @abstractmethod
    def detach(self) -> None:
        """Give up lock and descriptors, but keep what `write_again` needs: its files are not where they were. `close`
        follows once they are back."""

    @abstractmethod
    def write_again(self) -> None:
        """After `detach`: write all that it knows to its path, unless there is a file. Raises LedgerError."""
