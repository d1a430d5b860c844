"""`preforkd scale`, `pause`, `resume` and `retry`: what an operator does with one pool while the daemon runs."""

from __future__ import annotations

import getpass
import os

import click

from supervisor.cli.console import print_line, shown
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.control.results import Changed, Scaled, Tried

PAUSED = {True: "is paused", False: "was paused already"}
RESUMED = {True: "takes messages again", False: "was not paused"}
"""By whether the order has changed something."""


@click.command("scale")
@click.argument("pool")
@click.argument("workers", type=int)
@pass_invocation
def scale_command(invocation: Invocation, pool: str, workers: int) -> int:
    """Run WORKERS workers in POOL, until the next reload or restart.

    Surplus workers finish their message first.
    """
    if workers < 1:
        raise click.UsageError(
            f"{workers} workers: at least 1 is needed; `preforkd pause {shown(pool)}` lets a pool take no messages"
        )
    with invocation.connect() as daemon:
        result = daemon.ask_for(Scaled, "scale", pool=pool, workers=workers)
    print_line(scaled_text(pool, result.former, workers))
    if workers > result.prefetch:
        print_line(f"  prefetch is {result.prefetch}: at most that many workers have a message at the same time")
    return 0


@click.command("pause")
@click.argument("pool")
@pass_invocation
def pause_command(invocation: Invocation, pool: str) -> int:
    """Take no more messages for POOL. Running handlers finish, other messages are requeued.

    A paused pool stays paused until `preforkd resume` or a restart of the daemon.
    """
    with invocation.connect() as daemon:
        changed = daemon.ask_for(Changed, "pause", pool=pool, by=operator()).changed
    print_line(f"pool {pool} {PAUSED[changed]}")
    return 0


@click.command("resume")
@click.argument("pool")
@pass_invocation
def resume_command(invocation: Invocation, pool: str) -> int:
    """Take messages for POOL again."""
    with invocation.connect() as daemon:
        changed = daemon.ask_for(Changed, "resume", pool=pool).changed
    print_line(f"pool {pool} {RESUMED[changed]}")
    return 0


@click.command("retry")
@click.argument("pool")
@pass_invocation
def retry_command(invocation: Invocation, pool: str) -> int:
    """Start the held children of POOL at once, instead of after hold_retry."""
    with invocation.connect() as daemon:
        tried = daemon.ask_for(Tried, "retry", pool=pool).tried
    print_line(
        f"pool {pool}: trying {', '.join(tried)}"
        if tried
        else f"pool {pool}: no child is held or waits for its back-off"
    )
    return 0


def scaled_text(pool: str, former: int, workers: int) -> str:
    """What a `scale` has done."""
    return f"pool {pool}: {former} -> {workers} workers, until the next reload or restart"


def operator() -> str:
    """The person behind this command, for `status`: also behind a sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return f"uid {os.getuid()}"
