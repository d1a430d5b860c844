"""The meaning of a delivery of a known message: beside its run in hand, or its ledger row. Two tables.

Pure; used by the settlement, in the consumer process. Runs of a message are ordered by (round, attempt): `here` is the
delivery's, `there` that of the run in hand, or of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from supervisor.brokers.copy_headers import QUEUE, rounds_behind
from supervisor.consumer.settlement.messages import Arrival, Entry, Phase
from supervisor.ledger.base import Row, RowState

SENT_MEANWHILE = (
    "it was sent again, with the same id and content, while this run of it was under way; a handler that wants another "
    "run raises Retry, or publishes to its own queue with exchange=''"
)
"""Why a second delivery of a message that was under way is acked."""


class Meaning(Enum):
    """The meaning of a delivery."""

    ATTACH = auto()  # another delivery of the run in hand: settled with it
    AFTER = auto()  # a newer run: waits until the run in hand is over
    COPY = auto()  # the copy that the run in hand waits for, or what has become of it: proof that it need not be made
    OVERTAKEN = auto()  # proof that another daemon has carried on the message that the run in hand waits for
    RUN = auto()
    ORDER = auto()  # sent again on purpose: a new order, whose next delivery may be a repetition
    DUPLICATE = auto()
    DECIDED = auto()  # what becomes of it was decided while it was missing
    IN_DOUBT = auto()  # every open row has an entry: one without cannot be proven unstarted, so it is not run blindly


_Place = tuple[int, int]
_BesideTest = Callable[[Entry, Arrival, _Place, _Place], bool]
_Test = Callable[[RowState, _Place, _Place], bool]
SETTLED = frozenset({RowState.DONE, RowState.RETRY, RowState.DEAD, RowState.PARKED})


def _was_given_up(arrival: Arrival, round_: int) -> bool:
    """Whether a letter of this round has gone back to the queue: later runs of the message tell of it."""
    headers = arrival.delivery.properties.headers or {}
    return arrival.stamped and any(
        former.get("round") == round_ for former in rounds_behind(headers, headers.get(QUEUE, ""))
    )


_BESIDE_RULES: tuple[tuple[_BesideTest, Meaning, str], ...] = (
    (
        lambda entry, arrival, here, there: (
            entry.pending is RowState.RETRY_PENDING
            and here[0] == entry.round
            and (here[1] == entry.attempt + 1 or (entry.delivery is None and here > there))
        ),
        Meaning.COPY,
        "",
    ),
    (
        lambda entry, arrival, here, there: (
            entry.pending in (RowState.DEAD_PENDING, RowState.PARKED_PENDING)
            and here[0] > entry.round
            and _was_given_up(arrival, entry.round)
        ),
        Meaning.COPY,
        "",
    ),
    (
        lambda entry, arrival, here, there: (
            entry.pending is not None
            and entry.delivery is None
            and here > there
            and (here[0] == entry.round or _was_given_up(arrival, entry.round))
        ),
        Meaning.OVERTAKEN,
        "",
    ),
    (lambda entry, arrival, here, there: here > there, Meaning.AFTER, ""),
    (lambda entry, arrival, here, there: here < there, Meaning.DUPLICATE, "a later run of it is under way"),
    (lambda entry, arrival, here, there: entry.phase is Phase.SAVING and not arrival.worn, Meaning.COPY, ""),
    (lambda entry, arrival, here, there: True, Meaning.ATTACH, ""),
)
"""The first row whose test holds counts."""

_RULES: tuple[tuple[_Test, Meaning, str], ...] = (
    (lambda state, here, there: here < there, Meaning.DUPLICATE, "a later run of it is on record"),
    (
        lambda state, here, there: state in SETTLED and here == there,
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


def meaning_beside(entry: Entry, arrival: Arrival, dedupe: str) -> tuple[Meaning, str]:
    """The meaning of a delivery beside the run of its message that is in hand, and why. `dedupe`: as in the
    configuration of the ledger."""
    if sent_on_purpose(arrival, dedupe):
        return Meaning.AFTER, ""
    here, there = (arrival.round, arrival.attempt), (entry.round, entry.attempt)
    return next((meaning, why) for test, meaning, why in _BESIDE_RULES if test(entry, arrival, here, there))


def meaning_behind(entry: Entry, dedupe: str) -> Meaning:
    """What those that wait behind a run mean for it, now that it is decided: the strongest proof among them, or AFTER.
    `dedupe`: as in `meaning_beside`."""
    found = {meaning_beside(entry, arrival, dedupe)[0] for arrival in entry.later}
    return next((proof for proof in (Meaning.COPY, Meaning.OVERTAKEN) if proof in found), Meaning.AFTER)


def meaning_of(row: Row, arrival: Arrival, dedupe: str) -> tuple[Meaning, str]:
    """The meaning of a delivery of a message with this row, and why. `dedupe`: as in `meaning_beside`."""
    if row.state in SETTLED and sent_on_purpose(arrival, dedupe):
        return Meaning.ORDER, ""
    here, there = (arrival.round, arrival.attempt), (row.round, row.attempt)
    meaning, why = next((meaning, why) for test, meaning, why in _RULES if test(row.state, here, there))
    return meaning, why.format(state=row.state)


def sent_on_purpose(arrival: Arrival, dedupe: str) -> bool:
    """With `dedupe = "redelivery"` a first delivery of a known id is a new order, not a repetition."""
    return dedupe == "redelivery" and not arrival.stamped and not arrival.delivery.redelivered
