"""What a delivery of a known message means: both tables, row by row."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Delivery
from supervisor.consumer.settlement.admission import Meaning, meaning_beside, meaning_of
from supervisor.consumer.settlement.messages import Arrival, Entry, Phase
from supervisor.ledger.base import Row, RowState
from supervisor.messages.message import Properties

KEY = b"k" * 24
FIRST, RETRIED, REPLAYED = (1, 1), (1, 2), (2, 1)
RUN, ORDER, DUPLICATE, DECIDED, IN_DOUBT = (
    Meaning.RUN,
    Meaning.ORDER,
    Meaning.DUPLICATE,
    Meaning.DECIDED,
    Meaning.IN_DOUBT,
)
ATTACH, AFTER, COPY, OVERTAKEN = Meaning.ATTACH, Meaning.AFTER, Meaning.COPY, Meaning.OVERTAKEN


def arrival(
    place: tuple[int, int], worn: bool = False, redelivered: bool = False, letter_of: int | None = None
) -> Arrival:
    """A delivery of the message; of a run beyond the first it is a copy of ours, and stamped. `letter_of`: the round
    after which it was a dead letter."""
    headers = {copy_headers.QUEUE: "q", copy_headers.FORMER: [{"round": letter_of}]} if letter_of else None
    delivery = Delivery(1, 7, "", "q", redelivered, Properties(headers=headers), b"")
    return Arrival(delivery, KEY, "m", True, *place, stamped=place != FIRST, worn=worn)


@pytest.mark.parametrize(
    ("state", "there", "here", "meaning", "why"),
    [
        (RowState.DONE, REPLAYED, FIRST, DUPLICATE, "a later run"),
        (RowState.DISPATCHED, RETRIED, FIRST, DUPLICATE, "a later run"),
        (RowState.GONE, RETRIED, FIRST, DUPLICATE, "a later run"),
        (RowState.DONE, FIRST, FIRST, DUPLICATE, "settled (done)"),
        (RowState.RETRY, FIRST, FIRST, DUPLICATE, "settled (retry)"),
        (RowState.DEAD, RETRIED, RETRIED, DUPLICATE, "settled (dead)"),
        (RowState.PARKED, FIRST, FIRST, DUPLICATE, "settled (parked)"),
        (RowState.DONE, FIRST, RETRIED, DUPLICATE, "an earlier attempt of the same round"),
        (RowState.GONE, FIRST, FIRST, DECIDED, ""),
        (RowState.DISPATCHED, FIRST, FIRST, IN_DOUBT, "its worker unknown"),
        (RowState.RETRY_PENDING, FIRST, FIRST, IN_DOUBT, "its worker unknown"),
        (RowState.DEAD_PENDING, RETRIED, RETRIED, IN_DOUBT, "its worker unknown"),
        (RowState.PARKED_PENDING, FIRST, FIRST, IN_DOUBT, "its worker unknown"),
        (RowState.RETURNED, FIRST, FIRST, RUN, ""),
        (RowState.RETRY, FIRST, RETRIED, RUN, ""),
        (RowState.DONE, FIRST, REPLAYED, RUN, ""),
        (RowState.DEAD, RETRIED, REPLAYED, RUN, ""),
        (RowState.GONE, FIRST, RETRIED, RUN, ""),
        (RowState.DISPATCHED, FIRST, RETRIED, RUN, ""),
    ],
)
def test_the_row_and_the_places_decide(
    state: RowState, there: tuple[int, int], here: tuple[int, int], meaning: Meaning, why: str
) -> None:
    found, told = meaning_of(Row(KEY, *there, state, 0, 1, 0.0, "m"), arrival(here), "keep")
    assert found is meaning
    assert why in told
    assert bool(told) is bool(why)


@pytest.mark.parametrize(
    ("state", "there", "redelivered", "here", "meaning"),
    [
        (RowState.DONE, FIRST, False, FIRST, ORDER),
        (RowState.DEAD, REPLAYED, False, FIRST, ORDER),
        (RowState.DONE, FIRST, True, FIRST, DUPLICATE),
        (RowState.DONE, RETRIED, False, RETRIED, DUPLICATE),
        (RowState.DISPATCHED, FIRST, False, FIRST, IN_DOUBT),
    ],
)
def test_with_dedupe_by_redelivery_the_first_delivery_of_a_settled_id_is_a_new_order(
    state: RowState, there: tuple[int, int], redelivered: bool, here: tuple[int, int], meaning: Meaning
) -> None:
    row = Row(KEY, *there, state, 0, 1, 0.0, "m")
    assert meaning_of(row, arrival(here, redelivered=redelivered), "redelivery")[0] is meaning


@pytest.mark.parametrize(
    ("phase", "pending", "there", "here", "worn", "meaning"),
    [
        (Phase.COPYING, RowState.RETRY_PENDING, FIRST, RETRIED, False, COPY),
        (Phase.COPYING, RowState.RETRY_PENDING, FIRST, RETRIED, True, COPY),
        (Phase.COPYING, RowState.RETRY_PENDING, FIRST, (1, 5), False, COPY),
        (Phase.COPYING, RowState.RETRY_PENDING, FIRST, REPLAYED, False, AFTER),
        (Phase.COPYING, RowState.DEAD_PENDING, FIRST, RETRIED, False, OVERTAKEN),
        (Phase.COPYING, RowState.PARKED_PENDING, FIRST, (1, 4), False, OVERTAKEN),
        (Phase.COPYING, RowState.DEAD_PENDING, RETRIED, REPLAYED, False, AFTER),
        (Phase.OWNED, None, FIRST, RETRIED, False, AFTER),
        (Phase.WAITING, None, FIRST, REPLAYED, True, AFTER),
        (Phase.OWNED, None, RETRIED, FIRST, False, DUPLICATE),
        (Phase.COPYING, RowState.RETRY_PENDING, RETRIED, FIRST, False, DUPLICATE),
        (Phase.SAVING, None, REPLAYED, RETRIED, False, DUPLICATE),
        (Phase.SAVING, None, FIRST, FIRST, False, COPY),
        (Phase.SAVING, None, FIRST, FIRST, True, ATTACH),
        (Phase.WAITING, None, FIRST, FIRST, False, ATTACH),
        (Phase.OWNED, None, FIRST, FIRST, True, ATTACH),
        (Phase.PUBLISHING, None, RETRIED, RETRIED, False, ATTACH),
        (Phase.COPYING, RowState.RETRY_PENDING, FIRST, FIRST, False, ATTACH),
    ],
)
def test_the_run_in_hand_and_the_places_decide(
    phase: Phase,
    pending: RowState | None,
    there: tuple[int, int],
    here: tuple[int, int],
    worn: bool,
    meaning: Meaning,
) -> None:
    entry = Entry(KEY, "m", *there)
    entry.phase, entry.pending = phase, pending
    found, why = meaning_beside(entry, arrival(here, worn), "keep")
    assert found is meaning
    assert bool(why) is (meaning is DUPLICATE)


@pytest.mark.parametrize(
    ("pending", "has_come", "letter_of", "here", "meaning"),
    [
        (RowState.DEAD_PENDING, False, 1, REPLAYED, COPY),
        (RowState.PARKED_PENDING, False, 1, (2, 3), COPY),
        (RowState.DEAD_PENDING, True, 1, REPLAYED, COPY),
        (RowState.RETRY_PENDING, False, 1, REPLAYED, OVERTAKEN),
        (RowState.RETRY_PENDING, True, 1, REPLAYED, AFTER),
        (RowState.DEAD_PENDING, True, None, RETRIED, AFTER),
        (RowState.DEAD_PENDING, False, 2, (3, 1), AFTER),
        (None, False, 1, REPLAYED, AFTER),
    ],
)
def test_a_letter_that_comes_back_proves_that_its_copy_was_made(
    pending: RowState | None, has_come: bool, letter_of: int | None, here: tuple[int, int], meaning: Meaning
) -> None:
    """`has_come`: the message that waits for its copy is here."""
    entry = Entry(KEY, "m", *FIRST)
    entry.phase, entry.pending = Phase.COPYING if pending else Phase.OWNED, pending
    entry.delivery = arrival(FIRST).delivery if has_come else None
    assert meaning_beside(entry, arrival(here, letter_of=letter_of), "keep")[0] is meaning


def test_a_letter_of_another_round_is_told_by_a_publisher_in_vain() -> None:
    """Only the headers of copies are read: a message without their stamp is the first round."""
    entry = Entry(KEY, "m", *FIRST)
    entry.phase, entry.pending = Phase.COPYING, RowState.DEAD_PENDING
    forged = msgspec.structs.replace(arrival(REPLAYED, letter_of=1), stamped=False)
    assert meaning_beside(entry, forged, "keep")[0] is AFTER


@pytest.mark.parametrize(
    ("redelivered", "here", "meaning"),
    [(False, FIRST, AFTER), (True, FIRST, ATTACH), (False, RETRIED, AFTER)],
)
def test_with_dedupe_by_redelivery_a_first_delivery_waits_for_the_run_in_hand(
    redelivered: bool, here: tuple[int, int], meaning: Meaning
) -> None:
    entry = Entry(KEY, "m", *FIRST)
    entry.phase = Phase.OWNED
    assert meaning_beside(entry, arrival(here, redelivered=redelivered), "redelivery")[0] is meaning
