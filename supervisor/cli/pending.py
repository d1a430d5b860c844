"""`preforkd pending`: failed messages of a pool that have not come back, or whose copy for the next attempt is lost.

They stay on record until they come or an operator drops them; those that have not come back, also until their queue was
empty for ten minutes. The running daemon is asked: only its consumer knows which ones have come back.
"""

from __future__ import annotations

import json
from typing import Any

import click

from supervisor.cli.console import print_line, print_table, shown
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.pools import whoever
from supervisor.errors import ControlError

_COLUMNS = ("ID", "STATE", ">ATTEMPT", "AT", "REASON")


@click.group("pending")
def pending_group() -> None:
    """Failed messages of a POOL that have not come back from the broker, or were lost there."""


@pending_group.command("list")
@click.argument("pool")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_invocation
def list_command(invocation: Invocation, pool: str, as_json: bool) -> int:
    """List them, oldest first."""
    found = _asked(invocation, pool)
    traces, total = found["traces"], found["total"]
    if as_json:
        for trace in traces:
            click.echo(json.dumps(trace))
        return 0
    if traces:
        print_table(_COLUMNS, map(_summary, traces))
    if total > len(traces):
        print_line(f"{len(traces)} of {total} shown")
    elif not traces:
        print_line(f"there are none in pool {shown(pool)}")
    return 0


@pending_group.command("drop")
@click.argument("pool")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that have not come back now.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_invocation
def drop_command(invocation: Invocation, pool: str, ids: tuple[str, ...], everything: bool, yes: bool) -> int:
    """Wait for them no longer.

    Nothing is deleted at the broker: a message that comes after all gets its copy and is not run.
    """
    if bool(ids) == everything:
        raise click.UsageError("name the IDs of messages, or --all")
    if everything and not yes:
        total = _asked(invocation, pool)["total"]
        click.confirm(f"Wait no longer for {total} failed message(s) of pool {shown(pool)}?", abort=True)
    dropped = _asked(invocation, pool, drop=list(ids), all=everything, by=whoever())
    print_line(f"{dropped['total']} message(s) of pool {shown(pool)} dropped; one that comes after all gets its copy")
    missing = set(ids) - {trace["message_id"] for trace in dropped["traces"]}
    for message_id in sorted(missing):
        click.echo(
            f"error: pool {shown(pool)} does not wait for a message {shown(message_id)}; `preforkd why` says what is "
            "known of it",
            err=True,
        )
    return 1 if missing else 0


def _asked(invocation: Invocation, pool: str, **order: Any) -> dict[str, Any]:
    """The daemon's answer. Raises NotRunning, ControlError."""
    with invocation.connect() as daemon:
        answer: dict[str, Any] = daemon.ask("pending", pool=pool, **order)["pools"][pool]
    if answer["why"]:
        raise ControlError(f"pool {pool}: {answer['why']}; try again in a moment")
    return answer


def _summary(trace: dict[str, Any]) -> tuple[str, str, str, str, str]:
    reason = trace["failure"]["reason"].strip().partition("\n")[0]
    return trace["message_id"], trace["state"], str(trace["attempt"]), trace["at"], reason
