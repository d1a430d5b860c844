"""Facts about telling a ledger from an older one, from another one, and from a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.ledger import witness
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.ledger.witness import Mark, behind
from tests.support.ledgers import found, row_of


@pytest.mark.parametrize(
    ("noted", "why"),
    [
        ([], ""),
        ([Mark("a", 5, 70)], ""),
        ([Mark("a", 5, 69)], ""),
        ([Mark("a", 4, 99)], ""),
        ([Mark("a", 5, 71)], "older"),
        ([Mark("a", 6, 70)], "older"),
        ([Mark("b", 1, 1)], "another"),
        ([Mark("a", 5, 70), Mark("a", 6, 70)], "older"),
    ],
)
def test_a_ledger_is_behind_what_was_noted_of_a_later_session_or_record(noted: list[Mark], why: str) -> None:
    said = behind(Mark("a", 5, 70), noted)
    assert (why in said) if why else (said == "")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"ledger": 3}', b"\xff"])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "note").write_bytes(damage)
    assert witness.notes([tmp_path / "note", tmp_path / "nothing"]) == []


def test_a_note_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    witness.note([tmp_path / "no" / "folder", tmp_path / "note"], Mark("a", 1, 2))
    assert witness.notes([tmp_path / "note"]) == [Mark("a", 1, 2)]


def test_a_mark_counts_openings_and_records_and_only_what_is_committed(path: Path) -> None:
    ledger = SqliteLedger(path, "full")
    first = ledger.mark
    assert (ledger.found.session, first.session, first.record) == (0, 1, 0)
    ledger.commit([row_of("a")], {})
    assert ledger.mark == Mark(first.ledger, 1, 1)
    ledger.close()
    again = SqliteLedger(path, "normal")
    assert (again.found, again.mark) == (Mark(first.ledger, 1, 1), Mark(first.ledger, 2, 1))
    again.close()


def test_doubt_outlives_the_process_and_ends(path: Path) -> None:
    ledger = SqliteLedger(path, "normal")
    assert not ledger.doubtful
    ledger.doubt(ledger.now_s + 3600.0)
    ledger.close()
    ledger = SqliteLedger(path, "normal")
    assert ledger.doubtful
    ledger.doubt(ledger.now_s)
    assert not ledger.doubtful
    ledger.close()


def test_a_ledger_whose_file_was_deleted_is_written_again_with_all_it_knew(path: Path) -> None:
    ledger = SqliteLedger(path, "full")
    ledger.commit([row_of("a")], {"done": 1})
    path.unlink()
    ledger.detach()
    ledger.write_again()
    again = SqliteLedger(path, "full")
    assert (len(found(again, "a")), again.counters()) == (1, {"done": 1})
    assert again.found == ledger.mark
    again.close()


def test_a_ledger_in_whose_place_is_another_file_is_not_written_over_it(path: Path) -> None:
    ledger = SqliteLedger(path, "full")
    path.unlink()
    path.write_bytes(b"of somebody else")
    ledger.detach()
    ledger.write_again()
    assert path.read_bytes() == b"of somebody else"
