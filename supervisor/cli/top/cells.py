"""The columns of `top`: what stands in each cell, and in which colour. Pure; tables over states and causes."""

from __future__ import annotations

from supervisor.cli.top.lines import Span, Style
from supervisor.cli.top.table import Column
from supervisor.cli.top.view import ExitRow, PoolRow, WorkerRow, brief_seconds
from supervisor.link.snapshot_parts import ConnectionStatus
from supervisor.logs.events import Cause
from supervisor.quantities import show_bytes, show_seconds

CAUSES: dict[str, Style] = {
    Cause.CLEAN_STOP: Style.GOOD,
    Cause.RECYCLED: Style.GOOD,
    Cause.UNEXPECTED_EXIT: Style.WARN,
    Cause.TIMEOUT: Style.WARN,
    Cause.STOP_KILLED: Style.WARN,
    Cause.KILLED: Style.BAD,
    Cause.CRASH: Style.BAD,
    Cause.OUT_OF_MEMORY: Style.BAD,
    Cause.MEMORY_LIMIT: Style.BAD,
    Cause.BOOT_FAILED: Style.BAD,
    Cause.LOST: Style.BAD,
}

STATES: dict[str, Style] = {
    **dict.fromkeys(("ok", "running", "publishing", "connected"), Style.GOOD),
    **dict.fromkeys(("starting", "booting", "connecting", "reloading", "stopping", "leaving"), Style.NOTE),
    **dict.fromkeys(("paused", "backoff", "degraded", "blocked"), Style.WARN),
    **dict.fromkeys(("held", "refused", "closed"), Style.BAD),
    **dict.fromkeys(("idle", "stopped"), Style.DIM),
}

_BAR = 8
_NEAR = ((0.9, Style.BAD), (0.6, Style.WARN), (0.0, Style.GOOD))


def cause_style(cause: str) -> Style:
    """The colour of a cause; one that is not known is not hidden."""
    return CAUSES.get(cause, Style.BAD)


def state_style(state: str) -> Style:
    """The colour of a state of a pool, a worker, a connection or the daemon."""
    return STATES.get(state, Style.PLAIN)


def connection_text(connection: ConnectionStatus) -> Span:
    """A connection in words: `connected to mq:5672 for 3m5s`."""
    host = f" to {connection.host}" if connection.host else ""
    why = f" ({connection.why})" if connection.why else ""
    text = f"{connection.state}{host} for {brief_seconds(connection.since_s)}{why}"
    return Span(text, state_style(connection.state))


def _short_connection(pool: PoolRow) -> Span:
    state = pool.connection.state
    return Span(f"{state} {_coarse(pool.connection.since_s)}", state_style(state))


def _coarse(seconds: float) -> str:
    """A duration in its largest unit: `42s`, `13m`, `2d`."""
    units = ((86400, "d"), (3600, "h"), (60, "m"))
    return next((f"{int(seconds // size)}{unit}" for size, unit in units if seconds >= size), f"{int(seconds)}s")


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    return f"{per_second:.1f}" if per_second < 1000 else f"{per_second:.0f}"


def _failures(pool: PoolRow) -> Span:
    return Span(_rate(pool.failed_rate), Style.BAD if pool.failed_rate else Style.PLAIN)


def _alarm(count: int) -> Span:
    return Span(str(count), Style.WARN if count else Style.DIM)


def _staff(pool: PoolRow) -> Span:
    return Span(f"{pool.ready}/{pool.wanted}", Style.PLAIN if pool.ready >= pool.wanted else Style.WARN)


def _counter(name: str) -> Column[PoolRow]:
    titles = {"duplicate": "DUPL"}
    return Column(
        titles.get(name, name.upper()),
        lambda pool: _alarm(pool.counters.get(name, 0)),
        rank={"dead": 1, "parked": 2, "retried": 3, "duplicate": 4}[name],
        right=True,
    )


POOLS: tuple[Column[PoolRow], ...] = (
    Column("POOL", lambda pool: Span(pool.name), least=8, most=20),
    Column("STATE", lambda pool: Span(pool.state, state_style(pool.state)), least=8),
    Column("WORKERS", _staff, right=True),
    Column("FLIGHT", lambda pool: Span(str(pool.in_flight)), rank=1, right=True),
    Column("READY", lambda pool: Span(str(pool.depth)), right=True, least=6),
    Column("DONE/S", lambda pool: Span(_rate(pool.done_rate)), right=True, least=6),
    Column("FAIL/S", _failures, rank=1, right=True),
    _counter("dead"),
    _counter("parked"),
    _counter("retried"),
    _counter("duplicate"),
    Column("HOST", lambda pool: Span(pool.connection.host or "-", Style.DIM), rank=5, most=30),
    Column("CONNECTION", _short_connection, rank=1, least=14),
)


def _worker_state(worker: WorkerRow) -> Span:
    again = f" {brief_seconds(worker.restart_in_s)}" if worker.restart_in_s is not None else ""
    return Span(worker.state + again, state_style(worker.state))


def _elapsed(worker: WorkerRow) -> Span:
    if not worker.attempt:
        return Span("")
    elapsed = brief_seconds(worker.elapsed_s)
    if not worker.limit_s:
        return Span(f"{' ' * _BAR} {elapsed}/none")
    full = round(worker.nearness * _BAR)
    limit = show_seconds(worker.limit_s) + ("*" if worker.own_limit else "")
    style = next(style for least, style in _NEAR if worker.nearness >= least)
    return Span(f"{'█' * full}{'░' * (_BAR - full)} {elapsed}/{limit}", style)


def _try(worker: WorkerRow) -> Span:
    return Span(str(worker.attempt) if worker.attempt else "", Style.WARN if worker.attempt > 1 else Style.PLAIN)


WORKERS: tuple[Column[WorkerRow], ...] = (
    Column("WORKER", lambda worker: Span(worker.name), least=8, most=24),
    Column("PID", lambda worker: Span(str(worker.pid or "-"), Style.DIM), rank=4, right=True, least=7),
    Column("STATE", _worker_state, least=10, most=14),
    Column("MSG/S", lambda worker: Span(_rate(worker.rate)), rank=1, right=True),
    Column("HANDLED", lambda worker: Span(str(worker.handled)), rank=5, right=True),
    Column("RSS", lambda worker: Span(show_bytes(worker.rss_bytes) if worker.rss_bytes else "-"), 1, True, 8),
    Column("RESTARTS", lambda worker: _alarm(worker.restarts), rank=2, right=True),
    Column("TRY", _try, rank=2, right=True),
    Column("ELAPSED/LIMIT", _elapsed, least=_BAR + 9),
    Column("MESSAGE", lambda worker: Span(worker.message_id), rank=1, least=8),
)


def _message(exit_: ExitRow) -> Span:
    attempt = f" (attempt {exit_.attempt})" if exit_.attempt else ""
    return Span(exit_.message_id + attempt if exit_.message_id else "")


EXITS: tuple[Column[ExitRow], ...] = (
    Column("AGO", lambda exit_: Span(f"{brief_seconds(exit_.ago_s)} ago"), right=True, least=8),
    Column("CHILD", lambda exit_: Span(exit_.child), least=10, most=24),
    Column("CAUSE", lambda exit_: Span(exit_.cause, cause_style(exit_.cause)), least=10),
    Column("STATUS", lambda exit_: Span(exit_.ended), rank=1, least=7),
    Column("UP", lambda exit_: Span(f"up {brief_seconds(exit_.up_s)}", Style.DIM), rank=3, least=7),
    Column("RUN", lambda exit_: Span(exit_.run), rank=2, least=8),
    Column("MESSAGE", _message, rank=1),
)
