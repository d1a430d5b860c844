"""`preforkd dead`: look at what was given up (`<queue>.dead`) or parked (`<queue>.parked`), retry it, or drop it.

Every command takes messages out unsettled and returns the rest once, at its end: each return of a message counts
towards a broker's delivery limit, and beyond that a broker deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import click

from supervisor.brokers.base import Delivery
from supervisor.brokers.dead_letter_browser import DeadLetterBrowser, open_browser
from supervisor.cli.console import block, print_line, shown
from supervisor.cli.dead_view import as_json_object, body_text, describe, summary
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.listing import ask_first, check_choice, print_json, print_list, report_missing
from supervisor.errors import PreforkdError

_COLUMNS = ("ID", "CAUSE", ">ATTEMPTS", "AT", "REASON")
_MORE = "--limit shows more"

C = TypeVar("C", bound=Callable[..., object])


def _parked(command: C) -> C:
    return click.option("--parked", is_flag=True, help="The parked messages, not the dead ones.")(command)


def _selection(command: C) -> C:
    command = click.argument("ids", nargs=-1, metavar="[ID]...")(command)
    return click.option("--all", "everything", is_flag=True, help="All messages that are there now.")(command)


@click.group("dead")
def dead_group() -> None:
    """Dead-lettered and parked messages of a pool's QUEUE."""


@dead_group.command("list")
@click.argument("queue")
@_parked
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_invocation
def list_command(invocation: Invocation, queue: str, parked: bool, limit: int, as_json: bool) -> int:
    """List messages, oldest first."""
    with _browser(invocation, queue, parked) as letters:
        found, total = letters.first(limit), letters.depth
    if as_json:
        print_json(found, as_json_object, total, _MORE)
    else:
        print_list(_COLUMNS, found, summary, total, f"there are none in {letters.name}", _MORE)
    return 0


@dead_group.command("show")
@click.argument("queue")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_parked
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole body.")
@pass_invocation
def show_command(invocation: Invocation, queue: str, ids: tuple[str, ...], parked: bool, as_json: bool) -> int:
    """Show headers, stack and the beginning of the body."""
    with _browser(invocation, queue, parked) as letters:
        found = letters.with_ids(ids)
    if as_json:
        print_json(found, as_json_object, len(found), "")
    for delivery in found if not as_json else ():
        click.echo(block(f"{describe(delivery)}\n{body_text(delivery.body)}"))
    return _report_missing(ids, found, letters.name)


@dead_group.command("retry")
@click.argument("queue")
@_selection
@_parked
@pass_invocation
def retry_command(invocation: Invocation, queue: str, ids: tuple[str, ...], everything: bool, parked: bool) -> int:
    """Move messages back to QUEUE, as a new round that begins with attempt 1."""
    with _acting(invocation, queue, parked, ids, everything) as (letters, found, done):
        for delivery in found:
            letters.retry(delivery)
            done.append(delivery)
    print_line(f"{len(done)} message(s) moved from {letters.name} back to {queue}")
    return _report_missing(ids, done, letters.name)


@dead_group.command("drop")
@click.argument("queue")
@_selection
@_parked
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def drop_command(
    invocation: Invocation, queue: str, ids: tuple[str, ...], everything: bool, parked: bool, yes: bool
) -> int:
    """Delete messages for good."""
    if everything and not yes:
        ask_first(f"Delete all {'parked' if parked else 'dead'} messages of {shown(queue)}?", "nothing was deleted")
    with _acting(invocation, queue, parked, ids, everything) as (letters, found, done):
        for delivery in found:
            letters.drop(delivery)
            done.append(delivery)
    print_line(f"{len(done)} message(s) deleted from {letters.name}")
    return _report_missing(ids, done, letters.name)


@contextmanager
def _acting(
    invocation: Invocation, queue: str, parked: bool, ids: tuple[str, ...], everything: bool
) -> Iterator[tuple[DeadLetterBrowser, Iterator[Delivery] | list[Delivery], list[Delivery]]]:
    """The letters that are meant, and a list for those that are done: a failure half-way says how many those
    were.
    """
    check_choice(ids, everything)
    done: list[Delivery] = []
    with _browser(invocation, queue, parked) as letters:
        try:
            yield letters, letters.all_now() if everything else letters.with_ids(ids), done
        except PreforkdError as error:
            error.args = (f"{error}\nuntil then: {len(done)} message(s) done; the others are still in their queue",)
            raise


def _browser(invocation: Invocation, queue: str, parked: bool) -> AbstractContextManager[DeadLetterBrowser]:
    return open_browser(invocation.config.broker, str(invocation.state_dir), queue, parked)


def _report_missing(ids: Sequence[str], found: Sequence[Delivery], name: str) -> int:
    ids_found = [delivery.properties.message_id for delivery in found]
    return report_missing(
        ids, ids_found, lambda id: f"there is no message {id} in {name}; another command or consumer may have it now"
    )
