"""What a section hands back: its table, its raw figures, its targets and how they were met. Pure.

A table goes to people as markdown; everything goes to build/bench.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

Cell = str | int | float


@dataclass(frozen=True)
class Figure:
    """One measured value of one contestant; `note` says what is special about it."""

    section: str
    name: str
    who: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Target:
    """What a figure must reach, and what we aim at. `value`: None where it could not be measured.

    `at_most`: small is good. `unit`: of all three; "x" for ratios.
    """

    name: str
    value: float | None
    must: float
    aim: float
    at_most: bool = False
    unit: str = "x"

    @property
    def outcome(self) -> str:
        """`aim`, `must`, `missed`, or `not measured`."""
        if self.value is None:
            return "not measured"
        if self._reaches(self.value, self.aim):
            return "aim"
        return "must" if self._reaches(self.value, self.must) else "missed"

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound

    @property
    def line(self) -> dict[str, Cell]:
        """A line of the table of targets."""
        sign = "≤" if self.at_most else "≥"
        measured = "" if self.value is None else with_unit(self.value, self.unit)
        bounds = {
            name: f"{sign} {with_unit(bound, self.unit)}" for name, bound in (("must", self.must), ("aim", self.aim))
        }
        return {"target": self.name, "measured": measured, **bounds, "met": self.outcome}


@dataclass
class Section:
    """`lines`: rows of the table, column → cell; a column that a row lacks stays empty. `notes`: what a reader must
    know of how it was measured."""

    name: str
    title: str
    lines: list[dict[str, Cell]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, who: str, value: float, unit: str, note: str = "") -> None:
        """Keep a figure for the JSON."""
        self.figures.append(Figure(self.name, name, who, value, unit, note))

    def as_markdown(self) -> str:
        """Title, table, targets, notes."""
        parts = [f"## {self.title}", markdown(self.lines), markdown([target.line for target in self.targets])]
        parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(part for part in parts if part) + "\n"

    def as_data(self) -> dict[str, Any]:
        """For JSON; every target with its outcome."""
        targets = [{**asdict(target), "outcome": target.outcome} for target in self.targets]
        return {**asdict(self), "targets": targets}


def markdown(lines: list[dict[str, Cell]]) -> str:
    """A table, its columns in the order in which rows first have them; a column of nothing but numbers stands right."""
    if not lines:
        return ""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    return "\n".join(_table(columns, lines))


def _table(columns: list[str], lines: list[dict[str, Cell]]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---:" if _is_numeric(column, lines) else "---" for column in columns])
    for line in lines:
        yield _row([number(line.get(column, "")) for column in columns])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _is_numeric(column: str, lines: list[dict[str, Cell]]) -> bool:
    return all(not isinstance(line[column], str) for line in lines if column in line)


def with_unit(value: float, unit: str) -> str:
    """`1.21 x`, `0.3 %`, `12,300 /s`."""
    return f"{number(value)} {unit}".rstrip()


def number(value: Cell) -> str:
    """A number with as many digits as mean something: 12,345, 123, 12.3, 1.23, 0.0123. Text stays as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"
