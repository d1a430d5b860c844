"""What commands about chosen messages share (`dead`, `pending`): the list, the choice, and the question before a loss.

Used by the command line only; where the messages come from is each command's own business. A list on stdout has nothing
but its lines with `--json`: what is left out is said on stderr then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from supervisor.cli.console import print_line, print_table, shown
from supervisor.errors import PreforkdError

T = TypeVar("T")


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


def _part(found: int, total: int, more: str) -> str:
    return f"{found} of {total} shown" + (f"; {more}" if more else "")
