"""`preforkd pending`: failed messages of a pool that have not come back, or whose copy for the next attempt is lost.

They stay on record until they come or an operator drops them; those that have not come back, also until their queue was
empty for ten minutes. The running daemon is asked: only its consumer knows which ones have come back.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from supervisor.cli.command import group
from supervisor.cli.completion import pending_ids, pools
from supervisor.cli.console import ask_first, check_choice, print_json, print_line, print_list, report_missing, shown
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.pools import operator
from supervisor.control.results import Found, FoundInPool
from supervisor.errors import ControlError
from supervisor.link.consumer_state import Trace

_COLUMNS = ("ID", "STATE", ">ATTEMPT", "AT", "REASON")


@group(
    "pending",
    ("Messages that have not come back", "preforkd pending list email"),
    ("Do not wait for one of them any longer", "preforkd pending drop email ORDER-17"),
)
def pending_group() -> None:
    """Show or drop failed messages that have not come back from the broker, or were lost there."""


@pending_group.command(
    "list",
    examples=(("Messages that have not come back", "preforkd pending list email"),),
)
@click.argument("pool", shell_complete=pools)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_invocation
def list_command(invocation: Invocation, pool: str, as_json: bool) -> int:
    """List messages, oldest first."""
    pool = invocation.pool(pool)
    found = _asked(invocation, pool)
    if as_json:
        print_json(found.traces, msgspec.to_builtins, found.total, "")
    else:
        print_list(_COLUMNS, found.traces, _summary, found.total, f"there are none in pool {pool}", "")
    return 0


@pending_group.command(
    "drop",
    examples=(("Do not wait for one message any longer", "preforkd pending drop email ORDER-17"),),
)
@click.argument("pool", shell_complete=pools)
@click.argument("ids", nargs=-1, metavar="[IDS]", shell_complete=pending_ids)
@click.option("--all", "everything", is_flag=True, help="Drop all that have not come back now.")
@click.option("--yes", is_flag=True, help="Do not ask before.")
@pass_invocation
def drop_command(invocation: Invocation, pool: str, ids: tuple[str, ...], everything: bool, yes: bool) -> int:
    """Stop waiting for messages that have not come back.

    Nothing is deleted at the broker: a message that comes later gets its copy and is not run.
    """
    check_choice(ids, everything)
    pool = invocation.pool(pool)
    if everything and not yes:
        total = _asked(invocation, pool).total
        question = f"Wait no longer for {total} failed message(s) of pool {shown(pool)}?"
        ask_first(question, "nothing was dropped")
    dropped = _asked(invocation, pool, drop=list(ids), all=everything, by=operator())
    print_line(
        f"{dropped.total} message(s) of pool {shown(pool)} dropped; a dropped message that comes later gets its copy"
    )
    found = [str(trace.message_id) for trace in dropped.traces]
    where = f"pool {shown(pool)} does not wait for a message"
    return report_missing(ids, found, lambda id: f"{where} {id}; `preforkd why` says what is known of it")


def _asked(invocation: Invocation, pool: str, **order: Any) -> FoundInPool:
    """The daemon's answer. Raises NotRunning, ControlError."""
    answer = invocation.ask_for(Found, "pending", pool=pool, **order).pools[pool]
    if answer.why:
        raise ControlError(f"pool {pool}: {answer.why}; try again in a moment")
    return answer


def _summary(trace: Trace) -> tuple[str, str, str, str, str]:
    reason = trace.failure.reason.strip().partition("\n")[0] if trace.failure is not None else ""
    return str(trace.message_id), trace.state, str(trace.attempt), trace.at, reason
