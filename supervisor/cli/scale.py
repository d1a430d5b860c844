"""`preforkd scale`: another number of workers, with a question before more are started than memory bears.

The question is the command line's: the control socket and the live view take the order as it is. The figures are those
of the workers that run now, and of the tightest limit that holds for the daemon: the machine's or its cgroup's.
"""

from __future__ import annotations

import click

from supervisor.cli.command import command
from supervisor.cli.completion import pools
from supervisor.cli.console import ask_first, print_line, shown
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.pools import scaled_text
from supervisor.config.pool_rules import MAX_WORKERS
from supervisor.control.results import PoolStatus, Scaled, Status
from supervisor.quantities import show_bytes
from supervisor.system.memory import Room, rooms
from supervisor.system.processes import private_bytes


@command(
    "scale",
    ("Run 8 workers in the pool `email`", "preforkd scale email 8"),
    ("In a script: ask nothing", "preforkd scale email 8 --yes"),
)
@click.argument("pool", shell_complete=pools)
@click.argument("workers", type=int)
@click.option("--yes", is_flag=True, help="Do not ask, also if the workers may not fit into memory.")
@pass_invocation
def scale_command(invocation: Invocation, pool: str, workers: int, yes: bool) -> int:
    """Run so many WORKERS in POOL, until the next reload or restart.

    Surplus workers finish their message first. If more are asked for than fit into free memory, by the largest worker
    of now, the command asks first.
    """
    if workers < 1:
        raise click.UsageError(
            f"{workers} workers: at least 1 is needed; `preforkd pause {shown(pool)}` lets a pool take no messages"
        )
    pool = invocation.pool(pool)
    status = None if yes or workers > MAX_WORKERS else invocation.status()
    if status is not None and (doubt := _doubt(status, pool, workers)):
        ask_first(f"{doubt} Start them?", "nothing was changed")
    result = invocation.ask_for(Scaled, "scale", pool=pool, workers=workers)
    print_line(scaled_text(pool, result.former, workers))
    if workers > result.prefetch:
        print_line(f"  prefetch is {result.prefetch}: at most that many workers have a message at the same time")
    return 0


def _doubt(status: Status, name: str, workers: int) -> str:
    """Why so many workers may not fit; "" if they do, or nothing is known of them."""
    pool = status.pools.get(name)
    if pool is None:
        return ""
    each = max((_bytes_of(worker.pid, worker.rss_bytes) for worker in pool.workers), default=0)
    return memory_doubt(name, workers - _alive(pool), each, rooms(status.pid))


def memory_doubt(pool: str, more: int, each_bytes: int, found: list[Room]) -> str:
    """Why `more` workers of `each_bytes` may not fit into the rooms `found`; "" if they do."""
    tightest = min(found, key=lambda room: room.available_bytes)
    if more <= 0 or more * each_bytes <= tightest.available_bytes:
        return ""
    return (
        f"{more} more worker(s) of pool {shown(pool)} need about {show_bytes(more * each_bytes)} "
        f"({show_bytes(each_bytes)} each, as the largest one now); {tightest.of} has "
        f"{show_bytes(tightest.available_bytes)} left of {show_bytes(tightest.limit_bytes)}."
    )


def _alive(pool: PoolStatus) -> int:
    return sum(worker.pid is not None for worker in pool.workers)


def _bytes_of(pid: int | None, rss_bytes: int) -> int:
    """A worker's private memory; its resident memory, which is more, where only its user may read that."""
    return (private_bytes(pid) or rss_bytes) if pid is not None else 0
