"""What a screen is made of: lines of styled spans, measured in terminal cells. Pure.

A style is a word of this package's own (`display.py` knows its colour), so that everything above can be tested as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from supervisor.cli.console import shown

ELLIPSIS = "…"


class Style(StrEnum):
    """How a span is meant."""

    PLAIN = "plain"
    TITLE = "title"
    DIM = "dim"
    GOOD = "good"
    NOTE = "note"
    WARN = "warn"
    BAD = "bad"
    PICKED = "picked"


class Span(NamedTuple):
    """A piece of text in one style."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Span, ...]


def line(*parts: Span | str) -> Line:
    """A line from spans and plain texts; what would command a terminal is made harmless."""
    spans = (Span(part) if isinstance(part, str) else part for part in parts)
    return tuple(Span(shown(text), style) for text, style in spans if text)


def joined(parts: Iterable[Span | str], gap: str = " · ") -> Line:
    """A line of parts with a gap between them."""
    spans: list[Span | str] = []
    for part in parts:
        spans += [Span(gap, Style.DIM), part] if spans else [part]
    return line(*spans)


def text_of(spans: Line) -> str:
    """What stands there, without styles."""
    return "".join(span.text for span in spans)


def cells(text: str) -> int:
    """How many cells of a terminal a text takes: some characters take two, some none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # loaded late, as everything of rich

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """A text in at most `width` cells; what was cut is said by an ellipsis."""
    if cells(text) <= width:
        return text
    if width <= 1:
        return ELLIPSIS[:width]
    from rich.cells import set_cell_size  # loaded late, as everything of rich

    return set_cell_size(text, width - 1).rstrip() + ELLIPSIS


def padded(text: str, width: int, right: bool = False) -> str:
    """A text in exactly `width` cells."""
    kept = cut(text, width)
    space = " " * (width - cells(kept))
    return space + kept if right else kept + space


def fitted(spans: Line, width: int) -> Line:
    """A line in at most `width` cells."""
    kept: list[Span] = []
    for text, style in spans:
        left = width - sum(cells(span.text) for span in kept)
        if cells(text) > left:
            kept.append(Span(cut(text, left), style))
            break
        kept.append(Span(text, style))
    return tuple(span for span in kept if span.text)
