"""Facts about telling a ledger from an older one, from another one, and from a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.ledger import witness
from supervisor.ledger.witness import Mark, behind


@pytest.mark.parametrize(
    ("noted", "why"),
    [
        ([], ""),
        ([Mark("a", 5, 70)], ""),
        ([Mark("a", 5, 69)], ""),
        ([Mark("a", 4, 99)], ""),
        ([Mark("a", 5, 71)], "older"),
        ([Mark("a", 6, 70)], "older"),
        ([Mark("b", 1, 1)], "not the one"),
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
