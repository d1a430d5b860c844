"""`preforkd exits`: the exit history, read from its files; it works whether or not a daemon runs.

The daemon appends to `exits.jsonl` and, when that is full, renames it to `exits.jsonl.1` and begins anew.
This file only reads. A last line that is not whole yet is left for later.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

import click

from supervisor.cli.console import print_line, print_table, shown
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.status import ended_with
from supervisor.errors import StateError
from supervisor.events import Cause
from supervisor.quantities import show_seconds

CURRENT = "exits.jsonl"
ROTATED = "exits.jsonl.1"
_FOLLOW_S = 0.25

Record = dict[str, Any]


@click.command("exits")
@click.option("--pool", help="Only of this pool.")
@click.option("--cause", type=click.Choice([cause.value for cause in Cause]), help="Only with this cause.")
@click.option("--json", "as_json", is_flag=True, help="The records as they are, one JSON object a line.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new exits as they happen, until interrupted.")
@click.option("-n", "count", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0: all.")
@pass_invocation
def exits_command(
    invocation: Invocation, pool: str | None, cause: str | None, as_json: bool, follow: bool, count: int
) -> int:
    """Show the last exits of workers, forkservers and consumers, oldest first."""
    with HistoryTail(invocation.state_dir) as tail:
        records = wanted(chain(tail.rotated(), tail.new()), pool, cause)
        last = list(deque(records, maxlen=count or None))
        if as_json:
            _print_json(last)
        elif last:
            print_table(_COLUMNS, map(_row, last))
        else:
            print_line(f"no such exits on record in {invocation.state_dir}")
        while follow:
            time.sleep(_FOLLOW_S)
            fresh = list(wanted(tail.new(), pool, cause))
            _print_json(fresh) if as_json else _print_lines(fresh)
    return 0


class HistoryTail:
    """A place in the exit history: `new()` gives what was added since, across rotations."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._file: BufferedReader | None = None

    def rotated(self) -> Iterator[Record]:
        """The records of the older file, if there is one."""
        old = self._open(ROTATED)
        if old is not None:
            with old:
                yield from _records(old)

    def new(self) -> Iterator[Record]:
        """The records added to the current file since the last call; all of them at the first one."""
        if self._file is None:
            self._file = self._open(CURRENT)
        if self._file is None:
            return
        yield from _records(self._file)
        if self._renamed(self._file):
            yield from _records(self._file)  # what came between our reading and the rotation
            self.close()
            yield from self.new()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> HistoryTail:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _renamed(self, file: BufferedReader) -> bool:
        try:
            current = (self._state_dir / CURRENT).stat()
        except FileNotFoundError:
            return False
        return current.st_ino != _inode(file)

    def _open(self, name: str) -> BufferedReader | None:
        path = self._state_dir / name
        try:
            return path.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"{path}: cannot read the exit history: {error.strerror}; use the daemon's user, or root (sudo)"
            ) from error


def wanted(records: Iterator[Record], pool: str | None, cause: str | None) -> Iterator[Record]:
    """The records of this pool and with this cause; None stands for any."""
    for record in records:
        if pool in (None, record.get("pool")) and cause in (None, record.get("cause")):
            yield record


def _records(file: BufferedReader) -> Iterator[Record]:
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        try:
            record = json.loads(line)
        except ValueError:  # torn by a crash or a full disk: the records around it are still good
            continue
        if isinstance(record, dict):
            yield record


def _inode(file: BufferedReader) -> int:
    return Path(f"/proc/self/fd/{file.fileno()}").stat().st_ino


_COLUMNS = ("AT", "CHILD", ">PID", "CAUSE", "STATUS", ">UP", "RUN", ">ATTEMPT", "MESSAGE", "NOTE")


def _row(record: Record) -> tuple[object, ...]:
    kind, pool, slot = record.get("kind", "worker"), record.get("pool", ""), record.get("slot")
    uptime_s = record.get("uptime_s")
    return (
        record.get("at", "-"),
        f"{pool}/{slot}" if slot is not None else f"{kind} {pool}",
        record.get("pid", "-"),
        record.get("cause", "-"),
        ended_with({"status": None, "signal": None} | record),
        "-" if uptime_s is None else show_seconds(uptime_s),
        record.get("run") or "-",
        record.get("attempt") or "-",
        record.get("message_id") or "-",
        f"OOM {record['oom_evidence']}" if record.get("oom_evidence") else "",
    )


def _print_lines(records: list[Record]) -> None:
    for record in records:
        click.echo("  ".join(shown(cell) for cell in _row(record)).rstrip())


def _print_json(records: list[Record]) -> None:
    for record in records:
        click.echo(json.dumps(record))
