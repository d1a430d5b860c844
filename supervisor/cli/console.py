"""What people see on a terminal: tables, lists of messages, questions, and text from outside made harmless.

A list on stdout has nothing but its lines with `--json`: what is left out is said on stderr then.

rich is used here and in `top/` only, and imported when something is drawn: it costs more time than most commands take.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supervisor.cli.printable import block as block
from supervisor.cli.printable import shown as shown
from supervisor.errors import PreforkdError
from supervisor.exit_history import Record

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_WIDE = 1000  # columns where the output is no terminal: nothing is ever folded or cut for a program that reads it


def as_arguments(*values: str) -> str:
    """Values as a shell takes them behind a command's name, for a command that people are to copy."""
    behind_options = "-- " if any(value.startswith("-") for value in values) else ""
    return behind_options + shlex.join(values)


def ended_with(status: int | None, signal: str | None) -> str:
    """How a process ended: its signal, or its status, or `-`."""
    return signal or ("-" if status is None else str(status))


def child_of(record: Record) -> str:
    """Which child an exit record is about: `email/3`, or `consumer email`."""
    kind, pool, slot = record.get("kind", "worker"), record.get("pool") or "", record.get("slot")
    return f"{pool}/{slot}" if slot is not None else f"{kind} {pool}".strip()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; a column whose title begins with `>` is aligned to the right."""
    from rich.console import Console  # loaded late: see the head of this file
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in columns:
        right = title.startswith(">")
        table.add_column(title.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    width = None if sys.stdout.isatty() else _WIDE
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def print_line(text: str = "") -> None:
    """A line on stdout, made harmless."""
    click.echo(shown(text))


class Declined(PreforkdError):
    """What was asked about is not done."""

    exit_code = 130  # as after Ctrl-C at the same question


def print_list(
    columns: Sequence[str], found: Sequence[T], row: Callable[[T], Sequence[object]], total: int, none: str, more: str
) -> None:
    """A table of what was found of `total`; `none`: what to say where there is nothing, `more`: how to see the rest."""
    if found:
        print_table(columns, map(row, found))
    if total > len(found):
        print_line(_part(len(found), total, more))
    elif not found:
        print_line(none)


def print_json(found: Sequence[T], facts: Callable[[T], dict[str, Any]], total: int, more: str) -> None:
    """The same, one JSON object a line."""
    for each in found:
        click.echo(json.dumps(facts(each)))
    if total > len(found):
        click.echo(_part(len(found), total, more), err=True)


def check_choice(ids: Sequence[str], everything: bool) -> None:
    """Raise a usage error where both ids and --all, or neither, were given."""
    if bool(ids) == everything:
        raise click.UsageError("name the IDs of messages, or --all")


def ask_first(question: str, undone: str) -> None:
    """Return after a yes. Raises Declined after a no, and where there is no more input. `undone`: what is not done."""
    try:
        agreed = click.confirm(question)
    except click.Abort as abort:
        if isinstance(abort.__context__, EOFError):
            raise Declined(f"{undone}: the question had no answer (no more input); --yes asks nothing") from abort
        raise
    if not agreed:
        raise Declined(f"{undone}: the answer was no")


def report_missing(ids: Sequence[str], found: Iterable[str | None], complaint: Callable[[str], str]) -> int:
    """Complain on stderr of each id that was not found; the exit code. `complaint` is given the id, made harmless."""
    missing = sorted(set(ids) - set(found))
    for message_id in missing:
        click.echo(f"error: {complaint(shown(message_id))}", err=True)
    return 1 if missing else 0


def progress_bar() -> Progress:
    """A progress bar on stderr, which shows nothing unless that is a terminal."""
    from rich.console import Console  # loaded late: see the head of this file
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)


def _part(found: int, total: int, more: str) -> str:
    return f"{found} of {total} shown" + (f"; {more}" if more else "")
