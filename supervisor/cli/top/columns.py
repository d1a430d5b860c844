"""The columns of `top`: what stands in each cell, in which colour, and which leave when a screen is narrow. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.cells import cell_len
from rich.console import OverflowMethod
from rich.table import Table
from rich.text import Text

from supervisor.cli.console import child_of, ended_with, shown
from supervisor.cli.top.view import PoolRow, WorkerRow, brief_seconds
from supervisor.exit_history import Record
from supervisor.link.consumer_state import ConnectionStatus
from supervisor.logs.events import Cause
from supervisor.quantities import show_bytes, show_seconds

Row = TypeVar("Row")

PLAIN, TITLE, DIM, GOOD, NOTE, WARN, BAD = "", "bold", "bright_black", "green", "cyan", "yellow", "bold red"
"""Styles of rich."""

CAUSES: dict[str, str] = {
    **dict.fromkeys((Cause.CLEAN_STOP, Cause.RECYCLED), GOOD),
    **dict.fromkeys((Cause.UNEXPECTED_EXIT, Cause.TIMEOUT, Cause.STOP_KILLED), WARN),
    **dict.fromkeys((Cause.KILLED, Cause.CRASH, Cause.OUT_OF_MEMORY, Cause.MEMORY_LIMIT), BAD),
    **dict.fromkeys((Cause.BOOT_FAILED, Cause.LOST), BAD),
}

STATES: dict[str, str] = {
    **dict.fromkeys(("ok", "running", "publishing", "connected"), GOOD),
    **dict.fromkeys(("starting", "booting", "connecting", "reloading", "stopping", "leaving"), NOTE),
    **dict.fromkeys(("paused", "backoff", "degraded", "blocked"), WARN),
    **dict.fromkeys(("held", "refused", "closed"), BAD),
    **dict.fromkeys(("idle", "stopped"), DIM),
}
"""Of a pool, a worker, a connection or the daemon; others have no colour."""

_BAR = 8
_NEAR = ((0.9, BAD), (0.6, WARN), (0.0, GOOD))
_WIDE = 100  # cells of a screen from which on there is more room between columns


def styled(text: object, style: str = PLAIN, overflow: OverflowMethod = "ellipsis") -> Text:
    """A text on one line, cut where there is no room; what would command a terminal is made harmless.

    `overflow`: "ignore" keeps the line whole.
    """
    return Text(shown(text), style, no_wrap=True, overflow=overflow)


def joined(parts: Iterable[Text], gap: str = " · ") -> Text:
    """One line of several parts with a gap between them."""
    line = styled("")
    for part in parts:
        line.append(gap if line else "", DIM).append_text(part)
    return line


def cause_style(cause: str) -> str:
    """The colour of a cause; one that is not known is not hidden."""
    return CAUSES.get(cause, BAD)


def in_colour(state: str, text: str = "") -> Text:
    """A state, or a text about one, in the state's colour."""
    return styled(text or state, STATES.get(state, PLAIN))


def connection_text(connection: ConnectionStatus) -> Text:
    """A connection in words: `connected to mq:5672 for 3m5s`."""
    host = f" to {connection.host}" if connection.host else ""
    why = f" ({connection.why})" if connection.why else ""
    return in_colour(connection.state, f"{connection.state}{host} for {brief_seconds(connection.since_s)}{why}")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column. `rank`: 0 always stays, of the others the highest leave first."""

    title: str
    cell: Callable[[Row], Text]
    rank: int = 0
    right: bool = False
    least: int = 0
    """Cells it takes at least, so that a table does not jump about as its figures change."""
    most: int = 0
    """Cells it takes at most; 0: as many as it needs. The last column is happy with `least`, and gets what is left."""

    def width(self, cells: Iterable[Text]) -> int:
        """How many cells of a terminal it takes for these contents."""
        title = cell_len(self.title)
        needed = max([title, self.least, *(cell.cell_len for cell in cells)])
        return min(needed, max(self.most, title)) if self.most else needed


def table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], width: int, titles: bool = True, picked: int = -1
) -> Table:
    """A line of `titles` and one for each row, in `width` cells; the one with the number `picked` is reversed."""
    grid = {column.title: [column.cell(row) for row in rows] for column in columns}
    widths = {column.title: column.width(grid[column.title]) for column in columns[:-1]}
    widths[columns[-1].title] = columns[-1].width(())
    gap = 2 if width >= _WIDE else 1
    kept = list(columns)
    # rich before 14.3 keeps a gap after the last column, too
    while (left := width - sum(widths[column.title] + gap for column in kept)) < 0:
        if not any(column.rank for column in kept):
            break
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    widths[kept[-1].title] = max(1, widths[kept[-1].title] + left)
    drawn = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=titles, header_style=TITLE)
    for column in kept:
        width = widths[column.title]
        drawn.add_column(column.title, justify="right" if column.right else "left", width=width, no_wrap=True)
    for number, cells in enumerate(zip(*(grid[column.title] for column in kept), strict=True)):
        drawn.add_row(*cells, style="reverse" if number == picked else PLAIN)
    return drawn


# ---- pools ----------------------------------------------------------------------------------------------------------


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    return f"{per_second:.1f}" if per_second < 1000 else f"{per_second:.0f}"


def _coarse(seconds: float) -> str:
    """A duration in its largest unit: `42s`, `13m`, `2d`."""
    units = ((86400, "d"), (3600, "h"), (60, "m"))
    return next((f"{int(seconds // size)}{unit}" for size, unit in units if seconds >= size), f"{int(seconds)}s")


def _alarm(count: int) -> Text:
    return styled(count, WARN if count else DIM)


def _staff(pool: PoolRow) -> Text:
    return styled(f"{pool.ready}/{pool.status.wanted}", PLAIN if pool.ready >= pool.status.wanted else WARN)


def _connection(pool: PoolRow) -> Text:
    state = pool.connection.state
    return in_colour(state, f"{state} {_coarse(pool.connection.since_s)}")


def _counter(name: str, title: str, rank: int) -> Column[PoolRow]:
    return Column(title, lambda pool: _alarm(pool.status.counters.get(name, 0)), rank, right=True)


POOLS: tuple[Column[PoolRow], ...] = (
    Column("POOL", lambda pool: styled(pool.name), least=8, most=20),
    Column("STATE", lambda pool: in_colour(pool.status.state), least=8),
    Column("WORKERS", _staff, right=True),
    Column("FLIGHT", lambda pool: styled(pool.status.consumer.in_flight), rank=1, right=True),
    Column("READY", lambda pool: styled(pool.status.depth.ready), right=True, least=6),
    Column("DONE/S", lambda pool: styled(_rate(pool.done_rate)), right=True, least=6),
    Column("FAIL/S", lambda pool: styled(_rate(pool.failed_rate), BAD if pool.failed_rate else PLAIN), 1, right=True),
    _counter("dead", "DEAD", 1),
    _counter("parked", "PARKED", 2),
    _counter("retried", "RETRIED", 3),
    _counter("duplicate", "DUPL", 4),
    Column("HOST", lambda pool: styled(pool.connection.host or "-", DIM), rank=5, most=30),
    Column("CONNECTION", _connection, rank=1, least=14),
)

# ---- workers and exits ----------------------------------------------------------------------------------------------


def _worker_state(worker: WorkerRow) -> Text:
    again = f" {brief_seconds(worker.restart_in_s)}" if worker.restart_in_s is not None else ""
    return in_colour(worker.state, worker.state + again)


def _elapsed(worker: WorkerRow) -> Text:
    if not worker.attempt:
        return styled("")
    elapsed = brief_seconds(worker.elapsed_s)
    if not worker.limit_s:
        return styled(f"{' ' * _BAR} {elapsed}/none")
    full = round(worker.nearness * _BAR)
    limit = show_seconds(worker.limit_s) + ("" if worker.limit_source == "pool" else "*")
    style = next(style for least, style in _NEAR if worker.nearness >= least)
    return styled(f"{'█' * full}{'░' * (_BAR - full)} {elapsed}/{limit}", style)


def _try(worker: WorkerRow) -> Text:
    return styled(worker.attempt or "", WARN if worker.attempt > 1 else PLAIN)


WORKERS: tuple[Column[WorkerRow], ...] = (
    Column("WORKER", lambda worker: styled(worker.name), least=8, most=24),
    Column("PID", lambda worker: styled(worker.pid or "-", DIM), rank=4, right=True, least=7),
    Column("STATE", _worker_state, least=10, most=14),
    Column("MSG/S", lambda worker: styled(_rate(worker.rate)), rank=1, right=True),
    Column("HANDLED", lambda worker: styled(worker.handled), rank=5, right=True),
    Column("RSS", lambda worker: styled(show_bytes(worker.rss_bytes) if worker.rss_bytes else "-"), 1, True, 8),
    Column("RESTARTS", lambda worker: _alarm(worker.restarts), rank=2, right=True),
    Column("TRY", _try, rank=2, right=True),
    Column("ELAPSED/LIMIT", _elapsed, least=_BAR + 9),
    Column("MESSAGE", lambda worker: styled(worker.message_id), rank=1, least=8),
)


def _message(record: Record) -> Text:
    attempt = f" (attempt {record['attempt']})" if record.get("attempt") else ""
    return styled(f"{record['message_id']}{attempt}" if record.get("message_id") else "")


def _cause(record: Record) -> Text:
    cause = record.get("cause", "-")
    return styled(cause, cause_style(cause))


EXITS: tuple[Column[Record], ...] = (
    Column("AGO", lambda record: styled(f"{brief_seconds(record['ago_s'])} ago"), right=True, least=8),
    Column("CHILD", lambda record: styled(child_of(record)), least=10, most=24),
    Column("CAUSE", _cause, least=10),
    Column("STATUS", lambda record: styled(ended_with(record.get("status"), record.get("signal"))), 1, least=7),
    Column("UP", lambda record: styled(f"up {brief_seconds(record.get('uptime_s') or 0.0)}", DIM), rank=3, least=7),
    Column("RUN", lambda record: styled((record.get("run") or "").replace("_", " ")), rank=2, least=8),
    Column("MESSAGE", _message, rank=1),
)
