"""Tables that fit: columns with a rank, of which the least important ones leave when a screen is narrow. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from supervisor.cli.console import shown
from supervisor.cli.top.lines import Line, Span, Style, cells, padded

Row = TypeVar("Row")

_WIDE = 100  # columns of a screen from which on there is room between columns


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column. `rank`: 0 always stays, of the others the highest leave first."""

    title: str
    cell: Callable[[Row], Span]
    rank: int = 0
    right: bool = False
    least: int = 0
    """Cells it takes at least, so that a table does not jump about as its figures change."""
    most: int = 0
    """Cells it takes at most; 0: as many as it needs. The last column is happy with `least`, and gets what is left."""


def table(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int) -> list[Line]:
    """A line of titles and one for each row, each of at most `width` cells."""
    grid = {column.title: [_harmless(column.cell(row)) for row in rows] for column in columns}
    widths = {column.title: _width(column, grid[column.title]) for column in columns[:-1]}
    widths[columns[-1].title] = max(cells(columns[-1].title), columns[-1].least)
    gap = 2 if width >= _WIDE else 1
    kept = list(columns)
    while len(kept) > 1 and _total(kept, widths, gap) > width and any(column.rank for column in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    last = kept[-1]
    left = width - (_total(kept, widths, gap) - widths[last.title])
    widths[last.title] = max(1, left)
    titles = [Span(column.title, Style.TITLE) for column in kept]
    body = [[grid[column.title][number] for column in kept] for number in range(len(rows))]
    return [_joined(kept, spans, widths, gap) for spans in [titles, *body]]


def _harmless(span: Span) -> Span:
    return Span(shown(span.text), span.style)


def _width(column: Column[Row], spans: Sequence[Span]) -> int:
    needed = max([cells(column.title), column.least, *(cells(span.text) for span in spans)])
    return min(needed, max(column.most, cells(column.title))) if column.most else needed


def _total(columns: Sequence[Column[Row]], widths: dict[str, int], gap: int) -> int:
    return sum(widths[column.title] for column in columns) + gap * (len(columns) - 1)


def _joined(columns: Sequence[Column[Row]], spans: Sequence[Span], widths: dict[str, int], gap: int) -> Line:
    parts: list[Span] = []
    for column, span in zip(columns, spans, strict=True):
        if parts:
            parts.append(Span(" " * gap))
        parts.append(Span(padded(span.text, widths[column.title], column.right), span.style))
    return tuple(parts)
