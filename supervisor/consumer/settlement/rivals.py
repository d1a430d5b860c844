"""The meaning of another daemon's row that was in the way of one of ours: a table.

Pure; used by the settlement, in the consumer process, where several daemons share a ledger. Runs of a message are
ordered by (round, attempt): `here` is the run of our message, `there` that of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from supervisor.consumer.settlement.admission import SETTLED
from supervisor.consumer.settlement.copies import PENDING
from supervisor.consumer.settlement.messages import HOST_LOST, Entry, Failure, failure_of
from supervisor.ledger.base import Rival, Row, RowState


class Standing(Enum):
    """What becomes of our message."""

    DUPLICATE = auto()  # it is over, or goes on with a later delivery
    DECIDED = auto()  # its run has failed on a host that cannot make its copy: it is made here
    IN_DOUBT = auto()  # it may have begun on a host that is lost
    HELD = auto()  # another daemon has it in hand: it stays here unsettled, and is claimed again later


_Place = tuple[int, int]

_RULES: tuple[tuple[Callable[[Rival, _Place, _Place], bool], Standing, str], ...] = (
    (lambda rival, here, there: rival.row.state in SETTLED, Standing.DUPLICATE, "{host} has settled it ({state})"),
    (
        lambda rival, here, there: there > here,
        Standing.DUPLICATE,
        "{host} has a later run of it on record ({state})",
    ),
    (lambda rival, here, there: there == here and rival.row.state is RowState.GONE, Standing.DECIDED, ""),
    (
        lambda rival, here, there: there == here and rival.lost and rival.row.state in PENDING.values(),
        Standing.DECIDED,
        "",
    ),
    (
        lambda rival, here, there: there == here and rival.lost and rival.row.state is RowState.DISPATCHED,
        Standing.IN_DOUBT,
        "",
    ),
    (lambda rival, here, there: True, Standing.HELD, ""),
)
"""The first row whose test holds counts."""


def standing_of(entry: Entry, rival: Rival) -> tuple[Standing, str]:
    """What becomes of this message, and why, for people."""
    here, there = (entry.round, entry.attempt), (rival.row.round, rival.row.attempt)
    standing, why = next((standing, why) for test, standing, why in _RULES if test(rival, here, there))
    return standing, why.format(host=host_of(rival), state=rival.row.state)


def decision_of(row: Row) -> tuple[RowState, Failure]:
    """What another daemon had decided when it wrote this row (DECIDED)."""
    failure = failure_of(row)
    return (PENDING[failure.pending] if row.state is RowState.GONE else row.state), failure


def loss_of(rival: Rival) -> Failure:
    """Why a run that a lost host has begun is in doubt."""
    return Failure(HOST_LOST, f"{host_of(rival)}, which had it, was declared lost (epoch {rival.row.epoch})")


def is_overruled(row: Row) -> bool:
    """Whether this refused row was the outcome of a run: it counts for nothing."""
    return row.state is RowState.DONE or (row.state in PENDING.values() and failure_of(row).ran)


def holder_of(rival: Rival) -> str:
    """The host and the epoch of this row's owner, for people."""
    return f"{host_of(rival)} (epoch {rival.row.epoch})"


def host_of(rival: Rival) -> str:
    """The host of this row's owner, for people."""
    return f"host {rival.host!r}" if rival.host else "another daemon"
