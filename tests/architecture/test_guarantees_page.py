"""docs/guarantees.md and docs/field-cases.md name tests for what they promise; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path("docs/guarantees.md")
CASES = Path("docs/field-cases.md")


def named() -> set[str]:
    return {name for page in (PAGE, CASES) for name in re.findall(r"`(test_\w+)`", page.read_text())}


def existing() -> set[str]:
    return {
        name for path in Path("tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }


def rows_of(text: str) -> list[str]:
    """The rows of all tables, without their heads."""
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [row for row in rows if not row.startswith(("| |", "| what dies", "| input |"))]


def test_every_test_that_a_page_names_exists() -> None:
    assert named() - existing() == set()


def test_every_invariant_has_its_row() -> None:
    rows = re.findall(r"^\| (I\d) \|", PAGE.read_text(), re.MULTILINE)

    assert rows == [f"I{number}" for number in range(1, 8)]


def test_every_row_names_a_test() -> None:
    promised, _, _measured = PAGE.read_text().partition("## Measured")

    assert [row for row in rows_of(promised) + rows_of(CASES.read_text()) if "`test_" not in row] == []


def test_every_field_case_says_what_happens() -> None:
    cells = [re.split(r"(?<!\\)\|", row.strip("|")) for row in rows_of(CASES.read_text())]

    assert [row for row in cells if len(row) != 3 or not all(cell.strip() for cell in row)] == []
