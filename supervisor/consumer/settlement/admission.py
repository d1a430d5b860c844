"""The meaning of a delivery with a ledger row: to be run, a repetition, or already decided. A table.

Pure; used by the settlement, in the consumer process. Runs of a message are ordered by (round, attempt): `here` is the
delivery's, `there` that of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from supervisor.consumer.settlement.messages import Arrival
from supervisor.ledger.base import Row, RowState

SENT_MEANWHILE = (
    "it was sent again, with the same id and content, while this run of it was under way; a handler that wants another "
    "run raises Retry, or publishes to its own queue with exchange=''"
)
"""Why a second delivery of a message that was under way is acked."""


class Meaning(Enum):
    """The meaning of a delivery."""

    RUN = auto()
    ORDER = auto()  # sent again on purpose: a new order, whose next delivery may be a repetition
    DUPLICATE = auto()
    DECIDED = auto()  # what becomes of it was decided while it was missing
    IN_DOUBT = auto()  # every open row has an entry: one without cannot be proven unstarted, so it is not run blindly


_Run = tuple[int, int]
_Test = Callable[[RowState, _Run, _Run], bool]
_SETTLED = frozenset({RowState.DONE, RowState.RETRY, RowState.DEAD, RowState.PARKED})

_RULES: tuple[tuple[_Test, Meaning, str], ...] = (
    (lambda state, here, there: here < there, Meaning.DUPLICATE, "a later run of it is on record"),
    (
        lambda state, here, there: state in _SETTLED and here == there,
        Meaning.DUPLICATE,
        "it is settled ({state})",
    ),
    (
        lambda state, here, there: state is RowState.DONE and here[0] == there[0],
        Meaning.DUPLICATE,
        "an earlier attempt of the same round is done",
    ),
    (lambda state, here, there: state is RowState.GONE and here == there, Meaning.DECIDED, ""),
    (
        lambda state, here, there: state.open and here == there,
        Meaning.IN_DOUBT,
        "its run is on record, its worker unknown",
    ),
    (lambda state, here, there: True, Meaning.RUN, ""),
)
"""The first row whose test holds counts."""


def meaning_of(row: Row, arrival: Arrival, dedupe: str) -> tuple[Meaning, str]:
    """The meaning of this delivery, and why. `dedupe`: as in the configuration of the ledger."""
    if row.state in _SETTLED and sent_on_purpose(arrival, dedupe):
        return Meaning.ORDER, ""
    here, there = (arrival.round, arrival.attempt), (row.round, row.attempt)
    meaning, why = next((meaning, why) for test, meaning, why in _RULES if test(row.state, here, there))
    return meaning, why.format(state=row.state)


def sent_on_purpose(arrival: Arrival, dedupe: str) -> bool:
    """With `dedupe = "redelivery"` a first delivery of a known id is a new order, not a repetition."""
    return dedupe == "redelivery" and not arrival.stamped and not arrival.delivery.redelivered
