"""Facts about what no run knows yet: every row has its place, open rows are those begun and not settled."""

from __future__ import annotations

import random

from supervisor.ledger.base import RowState
from supervisor.ledger.entries import entry, fingerprints
from supervisor.ledger.recent import Recent
from tests.support.ledgers import key_of, row_of

IDS = [f"m{number}" for number in range(40)]


def test_every_record_that_has_a_row_of_an_id_is_found_and_the_open_rows_are_known() -> None:
    recent, rng = Recent(), random.Random(3)
    places: dict[str, set[int]] = {}
    newest: dict[str, RowState] = {}
    settled = []
    for seq in range(300):
        ids = rng.sample(IDS, 3)
        opening = rng.random() < 0.5
        state = RowState.DISPATCHED if opening else RowState.DONE
        (recent.begin if opening else recent.settle)(seq, [row_of(id, state) for id in ids])
        for id in ids:
            places.setdefault(id, set()).add(seq)
            newest[id] = state
        settled += [] if opening else [entry(known, seq) for known in fingerprints([key_of(id) for id in ids])]
        assert recent.settled == len(settled)
    known = dict(zip(fingerprints([key_of(id) for id in IDS]), IDS, strict=True))
    assert {known[found]: set(seqs) for found, seqs in recent.find(list(known)).items()} == places
    assert {row.id for row in recent.open.values()} == {id for id, state in newest.items() if state.open}
    assert recent.fold() == sorted(settled)


def test_what_is_folded_is_forgotten_but_for_the_open_rows() -> None:
    recent = Recent()
    recent.begin(1, [row_of("open", RowState.DISPATCHED)])
    recent.settle(2, [row_of("closed")])
    assert len(recent.fold()) == 1
    assert recent.settled == 0
    assert recent.find(fingerprints([key_of("open"), key_of("closed")])) == {}
    assert [row.id for row in recent.open.values()] == ["open"]
