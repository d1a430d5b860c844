"""`preforkd dead`: look at what was given up (`<queue>.dead`) or parked (`<queue>.parked`), retry it, or drop it.

Every command takes messages out unsettled and returns the rest once, at its end: each return of a message counts
towards a broker's delivery limit, and beyond that a broker deletes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import msgspec

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import FORMER, PREFIX, PREVIEW_BYTES, diagnosis, former_rounds, plain, preview
from supervisor.brokers.dead_letter_browser import DeadLetterBrowser, NoSuchQueue, open_browser
from supervisor.cli.command import group
from supervisor.cli.completion import dead_ids, pools
from supervisor.cli.console import (
    ask_first,
    block,
    check_choice,
    print_json,
    print_line,
    print_list,
    report_missing,
    shown,
)
from supervisor.cli.invocation import AtLeast, Invocation, pass_invocation
from supervisor.errors import PreforkdError, like_a_pool

_COLUMNS = ("ID", "CAUSE", ">ATTEMPTS", "AT", "REASON")
_MORE = "--limit shows more"
_SUMMARY = ("cause", "attempts", "at", "reason")
_STACK = f"{PREFIX}stack"
_LAST = (_STACK, FORMER)

C = TypeVar("C", bound=Callable[..., object])


def _parked(command: C) -> C:
    return click.option("--parked", is_flag=True, help="Take the parked messages, not the dead letters.")(command)


def _selection(command: C) -> C:
    command = click.argument("ids", nargs=-1, metavar="[IDS]", shell_complete=dead_ids)(command)
    return click.option("--all", "everything", is_flag=True, help="Take all messages that are there now.")(command)


@group(
    "dead",
    ("The dead letters of the pool `email`", "preforkd dead list email"),
    ("Why one of them failed", "preforkd dead show email ORDER-17"),
    ("Run it again", "preforkd dead retry email ORDER-17"),
)
def dead_group() -> None:
    """Show, retry or delete the dead letters and parked messages of a queue.

    QUEUE is the name of a pool, or of its queue.
    """


@dead_group.command(
    "list",
    examples=(
        ("The dead letters of the pool `email`", "preforkd dead list email"),
        ("Its parked messages", "preforkd dead list email --parked"),
    ),
)
@click.argument("queue", shell_complete=pools)
@_parked
@click.option(
    "--limit",
    type=AtLeast(1),
    default=100,
    show_default=True,
    metavar="NUMBER",
    help="The most messages to list.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_invocation
def list_command(invocation: Invocation, queue: str, parked: bool, limit: int, as_json: bool) -> int:
    """List messages, oldest first."""
    queue = invocation.queue(queue)
    with _browser(invocation, queue, parked) as letters:
        found, total = letters.first(limit), letters.depth
    if as_json:
        print_json(found, as_json_object, total, _MORE)
    else:
        print_list(_COLUMNS, found, summary, total, f"there are none in {letters.name}", _MORE)
    return 0


@dead_group.command(
    "show",
    examples=(("Headers, stack and body of one message", "preforkd dead show email ORDER-17"),),
)
@click.argument("queue", shell_complete=pools)
@click.argument("ids", nargs=-1, required=True, metavar="IDS", shell_complete=dead_ids)
@_parked
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, with the whole body.")
@pass_invocation
def show_command(invocation: Invocation, queue: str, ids: tuple[str, ...], parked: bool, as_json: bool) -> int:
    """Show headers, stack and the beginning of the body of messages."""
    queue = invocation.queue(queue)
    with _browser(invocation, queue, parked) as letters:
        found = letters.with_ids(ids)
    if as_json:
        print_json(found, as_json_object, len(found), "")
    for delivery in found if not as_json else ():
        click.echo(block(f"{describe(delivery)}\n{body_text(delivery.body)}"))
    return _report_missing(ids, found, letters.name)


@dead_group.command(
    "retry",
    examples=(
        ("Run one message again", "preforkd dead retry email ORDER-17"),
        ("Run all of them again", "preforkd dead retry email --all"),
    ),
)
@click.argument("queue", shell_complete=pools)
@_selection
@_parked
@pass_invocation
def retry_command(invocation: Invocation, queue: str, ids: tuple[str, ...], everything: bool, parked: bool) -> int:
    """Move messages back to their queue.

    They run as a new round that begins with attempt 1.
    """
    check_choice(ids, everything)
    queue = invocation.queue(queue)
    return _act(invocation, queue, parked, ids, everything, DeadLetterBrowser.retry, "moved", f" back to {queue}")


@dead_group.command(
    "drop",
    examples=(
        ("Delete one message", "preforkd dead drop email ORDER-17"),
        ("Delete all parked messages, without a question", "preforkd dead drop email --parked --all --yes"),
    ),
)
@click.argument("queue", shell_complete=pools)
@_selection
@_parked
@click.option("--yes", is_flag=True, help="Do not ask before.")
@pass_invocation
def drop_command(
    invocation: Invocation, queue: str, ids: tuple[str, ...], everything: bool, parked: bool, yes: bool
) -> int:
    """Delete messages for good."""
    check_choice(ids, everything)
    queue = invocation.queue(queue)
    if everything and not yes:
        ask_first(f"Delete all {'parked' if parked else 'dead'} messages of {shown(queue)}?", "nothing was deleted")
    return _act(invocation, queue, parked, ids, everything, DeadLetterBrowser.drop, "deleted")


def _act(
    invocation: Invocation,
    queue: str,
    parked: bool,
    ids: tuple[str, ...],
    everything: bool,
    act: Callable[[DeadLetterBrowser, Delivery], None],
    what: str,
    where: str = "",
) -> int:
    """Do the same with all letters that are meant; the exit code. A failure half-way says how many were done."""
    done: list[Delivery] = []
    with _browser(invocation, queue, parked) as letters:
        try:
            for delivery in letters.all_now() if everything else letters.with_ids(ids):
                act(letters, delivery)
                done.append(delivery)
        except PreforkdError as error:
            error.args = (f"{error}\nuntil then: {len(done)} message(s) done; the others are still in their queue",)
            raise
    print_line(f"{len(done)} message(s) {what} from {letters.name}{where}")
    return _report_missing(ids, done, letters.name)


@contextmanager
def _browser(invocation: Invocation, queue: str, parked: bool) -> Iterator[DeadLetterBrowser]:
    try:
        with open_browser(invocation.messages.broker, str(invocation.state_dir), queue, parked) as letters:
            yield letters
    except NoSuchQueue as error:
        raise PreforkdError(f"{error}{like_a_pool(queue, invocation.queues(None))}") from error


def _report_missing(ids: Sequence[str], found: Sequence[Delivery], name: str) -> int:
    ids_found = [delivery.properties.message_id for delivery in found]
    return report_missing(
        ids, ids_found, lambda id: f"there is no message {id} in {name}; another command or consumer may have it now"
    )


# ---- a message, written for people or for programs ------------------------------------------------------------------
# No value can imitate a further line: line ends in properties and names are written escaped, in headers indented. Other
# characters that command a terminal are escaped by whatever prints the text (`console.block`).


def summary(delivery: Delivery) -> tuple[str, str, str, str, str]:
    """One line of `dead list`: id, cause, attempts, at, reason."""
    ours = diagnosis(delivery)
    cells = (ours.get(name, "-") for name in ("cause", "attempts", "at"))
    cause, attempts, at = (str(cell) for cell in cells)
    reason = str(ours.get("reason", "")).strip().partition("\n")[0]
    return delivery.properties.message_id or "-", cause, attempts, at, reason


def describe(delivery: Delivery) -> str:
    """Properties and headers, one a line, then the stack, then what ended former rounds, the last one first."""
    properties = msgspec.structs.asdict(delivery.properties)
    lines = [
        f"{name}: {_one_line(value)}" for name, value in properties.items() if value is not None and name != "headers"
    ]
    headers = delivery.properties.headers or {}
    lines += [
        f"  {_one_line(name)}: {_indented(value)}" for name, value in sorted(headers.items()) if name not in _LAST
    ]
    if stack := headers.get(_STACK):
        lines += ["stack:", str(stack).rstrip()]
    for facts in reversed(former_rounds(headers)):
        lines += [
            f"former round {facts.pop('round', '?')}:",
            *(f"  {name}: {_indented(facts[name])}" for name in facts),
        ]
    return "\n".join(lines)


def body_text(body: bytes) -> str:
    """The beginning of the body: as text where it is UTF-8, else in hexadecimal."""
    more = f"\n… {len(body) - PREVIEW_BYTES} more byte(s)" if len(body) > PREVIEW_BYTES else ""
    return f"body: {len(body)} byte(s)\n{preview(body)}{more}"


def as_json_object(delivery: Delivery) -> dict[str, Any]:
    """Everything, as JSON values; a body that is not UTF-8 is in `body_base64`."""
    properties = msgspec.structs.asdict(delivery.properties)
    result: dict[str, Any] = {
        "id": delivery.properties.message_id,
        **{name: value for name, value in diagnosis(delivery).items() if name in _SUMMARY},
        "properties": plain({name: value for name, value in properties.items() if value is not None}),
    }
    try:
        result["body"] = delivery.body.decode()
    except UnicodeDecodeError:
        result["body_base64"] = base64.b64encode(delivery.body).decode()
    return result


def _indented(value: Any) -> str:
    return str(value).replace("\n", "\n    ")


def _one_line(value: Any) -> str:
    return str(value).replace("\n", "\\n")
