"""docs/guarantees.md names a test for every promise; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path("docs/guarantees.md")


def named() -> list[str]:
    return sorted(set(re.findall(r"`(test_\w+)`", PAGE.read_text())))


def existing() -> set[str]:
    return {
        name for path in Path("tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }


@pytest.mark.parametrize("name", named())
def test_every_test_that_the_page_names_exists(name: str) -> None:
    assert name in existing()


def test_every_invariant_has_its_row() -> None:
    rows = re.findall(r"^\| (I\d) \|", PAGE.read_text(), re.MULTILINE)

    assert rows == [f"I{number}" for number in range(1, 8)]


def test_every_row_names_a_test() -> None:
    promised, _, _measured = PAGE.read_text().partition("## Measured")
    rows = [line for line in promised.splitlines() if line.startswith("| ") and "---" not in line]
    promises = [row for row in rows if not row.startswith(("| |", "| what dies"))]

    assert [row for row in promises if "`test_" not in row] == []
