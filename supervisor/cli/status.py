"""`preforkd status`: what the daemon says of itself, as tables or as its own JSON.

Leaves with 0 running, 1 dead although its PID file is there, 3 not running (LSB 5.0, init script actions), 150 running
with a pool that is held. With --probe 0 for yes and 1 for no.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO

import click

from supervisor.cli.command import command
from supervisor.cli.console import as_arguments, ended_with, print_line, print_table
from supervisor.cli.invocation import POOL_HELD, SECONDS, Invocation, pass_invocation
from supervisor.cli.probe import KINDS, probe
from supervisor.cli.top.view import brief_seconds, connection_s, reload_text
from supervisor.control.client import NotRunning, OtherRuntimeDir
from supervisor.control.protocol import Facts, typed
from supervisor.control.results import (
    ConsumerStatus,
    ExitCount,
    PoolStatus,
    ServiceStatus,
    SidecarStatus,
    Status,
    WorkerStatus,
)
from supervisor.master.host.pidfile import PID_FILE, find_holder
from supervisor.quantities import show_bytes, show_seconds

DEAD_WITH_PID_FILE = 1
NOT_RUNNING = 3


@command(
    "status",
    ("The state of everything", "preforkd status"),
    ("For a program", "preforkd status --json"),
    ("Refresh every 5 seconds", "preforkd status --watch --interval 5s"),
)
@click.option("--json", "as_json", is_flag=True, help="Print the status object of the daemon as JSON.")
@click.option("--watch", is_flag=True, help="Refresh until interrupted (`top` shows more).")
@click.option("--interval", "interval_s", type=SECONDS, default="1s", help="With --watch: refresh this often (1s).")
@click.option(
    "--probe",
    "kind",
    type=click.Choice(KINDS),
    help="Say in one line whether the daemon is alive, or does its work. Exit code: 0 yes, 1 no.",
)
@pass_invocation
def status_command(invocation: Invocation, as_json: bool, watch: bool, interval_s: float, kind: str | None) -> int:
    """Show pools, workers, connections and exits. Exit code: 0 running, 1 dead, 3 not running, 150 a pool is held."""
    if kind is not None:
        if as_json or watch:
            raise click.UsageError("--probe prints one line: it goes with neither --json nor --watch")
        return probe(invocation, kind)
    if watch:
        from supervisor.cli.top.display import Display  # loaded late: rich costs more time than most commands take
        from supervisor.cli.top.loop import Loop
        from supervisor.cli.top.pages import StatusPage

        display = Display(keys=False)
        page = StatusPage(_as_json if as_json else _as_tables, cut=display.live)
        return Loop(invocation.runtime_dir, display, page, interval_s).run()
    try:
        with invocation.connect() as daemon:
            status = daemon.ask("status")
    except NotRunning as error:
        return _report_absence(invocation, error, as_json)
    if as_json:
        click.echo(_as_json(status))
    known = typed(status, Status)
    if not as_json:
        print_status(known)
    return POOL_HELD if any(pool.state == "held" for pool in known.pools.values()) else 0


def _as_json(status: Facts) -> str:
    return json.dumps(status, indent=2)


def _as_tables(status: Facts) -> str:
    with redirect_stdout(StringIO()) as text:
        print_status(typed(status, Status))
    return text.getvalue()


def print_status(status: Status) -> None:
    """Print the status object of docs/control-protocol.md for people."""
    print_line(
        f"preforkd {status.version}  pid {status.pid}  {status.state}  "
        f"up {show_seconds(status.uptime_s)}  {status.config or 'no configuration file'}"
    )
    if status.reload is not None:
        print_line(reload_text(status.reload))
    for sidecar in status.sidecars:
        print_line(f"{sidecar.kind:5}  {_child(sidecar)}")
    for name, pool in status.pools.items():
        _print_pool(name, pool)
    print_exits(status.exits)


def print_exits(counts: Iterable[ExitCount]) -> None:
    """Print how often children ended: cause by status."""
    print_line()
    if not counts:
        print_line("no exits on record")
        return
    columns = ("POOL", "KIND", "CAUSE", "STATUS", ">COUNT")
    print_table(columns, ((e.pool, e.kind, e.cause, ended_with(e.status, e.signal), e.count) for e in counts))


def _report_absence(invocation: Invocation, error: NotRunning, as_json: bool) -> int:
    """Report why no daemon answers, by the PID file and the process that it names."""
    path = invocation.runtime_dir / PID_FILE
    holder = find_holder(path)
    if isinstance(error, OtherRuntimeDir):
        state, text, code = "unreachable", str(error), 0
    elif holder is not None:
        state, text, code = "starting", str(error), 0
    elif path.exists():
        state, text, code = (
            "dead",
            f"preforkd is dead, but has left {path}; `preforkd start` replaces it",
            DEAD_WITH_PID_FILE,
        )
    else:
        state, text, code = "not running", str(error), NOT_RUNNING
    click.echo(json.dumps({"state": state})) if as_json else print_line(text)
    return code


def _print_pool(name: str, pool: PoolStatus) -> None:
    why = f" ({pool.why})" if pool.why else ""
    depth = f"{pool.depth.ready} ready, {pool.depth.consumers} consumer(s)"
    print_line()
    print_line(f"pool {name}: {pool.state}{why}  queue {pool.queue}  {depth}")
    print_line(f"  forkserver  {_child(pool.forkserver)}")
    print_line(f"  consumer    {_child(pool.consumer)}  {_connection(pool.consumer)}")
    for note in pool.consumer.notes:
        print_line(f"  note        {note}")
    if pool.paused is not None:
        print_line(f"  paused      by {pool.paused.by}, since {pool.paused.since}")
    if pool.configured != pool.wanted:
        print_line(f"  scaled      to {pool.wanted} workers, until the next reload; configured: {pool.configured}")
    counted = "  ".join(f"{count} {what}" for what, count in pool.counters.items() if count)
    print_line(f"  messages    {counted or 'none yet'}")
    if pool.counters.get("dead") or pool.counters.get("parked"):
        print_line(
            "  counted     since the first start; messages in the queue now: "
            f"`preforkd dead list {as_arguments(pool.queue)}`"
        )
    print_table(
        ("WORKER", ">PID", "STATE", ">ATTEMPT", ">ELAPSED", ">LIMIT", ">HANDLED", ">RSS", ">RESTARTS", "MESSAGE"),
        (_worker_row(worker) for worker in pool.workers),
    )


def _worker_row(worker: WorkerStatus) -> tuple[object, ...]:
    busy = bool(worker.attempt)
    again = f", again in {show_seconds(worker.restart_in_s)}" if worker.restart_in_s is not None else ""
    return (
        worker.name,
        worker.pid or "-",
        worker.state + again,
        worker.attempt if busy else "-",
        show_seconds(worker.elapsed_s) if busy else "-",
        _limit(worker) if busy else "-",
        worker.handled,
        show_bytes(worker.rss_bytes) if worker.rss_bytes else "-",
        worker.restarts,
        worker.message_id or "-",
    )


def _limit(worker: WorkerStatus) -> str:
    if not worker.limit_s:
        return "none"
    source = "" if worker.limit_source == "pool" else f" ({worker.limit_source})"
    return show_seconds(worker.limit_s) + source


def _child(child: ServiceStatus | SidecarStatus) -> str:
    why = f" ({child.why})" if child.why else ""
    restarts = f", {child.restarts} restart(s)" if child.restarts else ""
    return f"pid {child.pid or '-'}  {child.state}{why}{restarts}"


def _connection(consumer: ConsumerStatus) -> str:
    connection = consumer.connection
    why = f" ({connection.why})" if connection.why else ""
    since = brief_seconds(connection_s(consumer, datetime.now(UTC)))
    return f"{connection.state} {connection.host} for {since}{why}, {consumer.in_flight} in flight"
