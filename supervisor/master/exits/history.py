"""The exit history: `exits.jsonl`, one record a line, and `exits.tally.json`, the counts that outlive the daemon.

Only the master writes it, once per turn, before an exit notice leaves. The history file is the truth. The tally is a
summary of it up to a remembered place: a master killed between the two finds the rest in the file, so nothing is
counted twice or not at all. A full disk never stops the master: records wait in memory, bounded, and the log says so.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from supervisor.control.results import ExitCount
from supervisor.errors import StateError
from supervisor.exit_history import CURRENT, ROTATED, records
from supervisor.master.host import files
from supervisor.master.pool.exit_records import ExitRecord, Tally
from supervisor.system.clock import monotonic_s

MAX_BYTES = 16 * 1024 * 1024
"""The history file is set aside as `exits.jsonl.1` when it has grown to this: at most twice as much is ever kept."""

MAX_WAITING = 10_000
SAVE_S = 1.0

_logger = logging.getLogger("preforkd.history")


class _Summary(msgspec.Struct):
    """The tally file. `inode` and `offset`: up to where in which history file the counts go.

    `recorded`: the youngest generation of each child spec (`email/3`) that has an exit record.
    """

    inode: int = 0
    offset: int = 0
    recorded: dict[str, int] = {}
    counts: list[tuple[Tally, int]] = []


class History:
    """Opened once by the master, which holds the state directory's lock."""

    does = "write the exit history"

    def __init__(self, state_dir: Path, max_bytes: int = MAX_BYTES, max_waiting: int = MAX_WAITING) -> None:
        """Open the history file and bring the tally up to it. Raises StateError when they cannot be opened or read.

        `max_waiting`: how many records wait for a full disk at most.
        """
        self._path = state_dir / CURRENT
        self._old_path = state_dir / ROTATED
        self._tally_path = state_dir / "exits.tally.json"
        self._max_bytes = max_bytes
        self._waiting: deque[ExitRecord] = deque(maxlen=max_waiting)
        self._dropped = 0
        self._failing = False
        self._behind = False
        self._saved_s = float("-inf")
        self._counts: Counter[Tally] = Counter()
        self._recorded: dict[str, int] = {}
        try:
            self._descriptor, self._size = _open(self._path)
            self._catch_up()
        except OSError as error:
            raise StateError(
                f"{error.filename or self._path}: the exit history cannot be opened: {error.strerror or error}; "
                "check the owner of state_dir and its free space"
            ) from error

    def add(self, record: ExitRecord) -> None:
        """Take a record; it is written by the next `flush`."""
        if len(self._waiting) == self._waiting.maxlen:
            self._count(self._waiting.popleft())
            self._dropped += 1
        self._waiting.append(record)

    def flush(self) -> bool:
        """Write what waits into the history file; True when nothing waits. Never raises: a full disk is logged."""
        if not self._waiting:
            return True
        try:
            self._append(b"".join(msgspec.json.encode(record) + b"\n" for record in self._waiting))
        except OSError as error:
            if not self._failing:
                text = (
                    "%s: exit records cannot be written (%s): they wait in memory, at most %d of them; free some space"
                )
                _logger.error(text, self._path, error.strerror, self._waiting.maxlen)
            self._failing = True
            return False
        for record in self._waiting:
            self._count(record)
        self._waiting.clear()
        self._behind = True
        if self._failing:
            text = "%s: exit records are written again; %d had to be dropped (the tally has them, and the log)"
            _logger.warning(text, self._path, self._dropped)
        self._failing, self._dropped = False, 0
        return True

    def save(self, now_s: float) -> None:
        """Bring the tally file up to the history file, at most every `SAVE_S`: only a next daemon reads it."""
        if not self._behind or now_s < self._saved_s + SAVE_S:
            return
        self._saved_s = now_s
        with suppress(OSError):  # a full disk: the history file has it, the next save tries again
            self._write_tally()

    def recorded(self, spec: str) -> int:
        """The youngest generation of `spec`, a name of a child (`email/3`), that has an exit record; 0 for none."""
        return self._recorded.get(spec, 0)

    def counts(self) -> list[ExitCount]:
        """The tally as `status` shows it, with what waits."""
        total = self._counts + Counter(Tally.of(record) for record in self._waiting)
        rows = sorted(total.items(), key=lambda row: msgspec.json.encode(row[0]))
        return [ExitCount(**msgspec.structs.asdict(tally), count=count) for tally, count in rows]

    def youngest(self, pool: str) -> int:
        """The youngest generation of any child of a pool that has an exit record; 0 for none."""
        places = (f"{pool}/", f"{pool} ")
        return max((last for spec, last in self._recorded.items() if spec.startswith(places)), default=0)

    @property
    def due_s(self) -> float:
        """When `turn` is needed next (CLOCK_MONOTONIC)."""
        return monotonic_s() + SAVE_S if self._waiting or self._behind else float("inf")

    def turn(self, now_s: float) -> None:
        """Write the records and the tally, as far as that is due and possible."""
        # fail-point: master.told: the turn's frames are sent
        self.flush()
        self.save(now_s)

    def close(self) -> None:
        """Write what can be written, and give up the history file."""
        self.flush()
        self._saved_s = float("-inf")
        self.save(0.0)
        os.close(self._descriptor)

    def _count(self, record: ExitRecord) -> None:
        self._counts[Tally.of(record)] += 1
        self._recorded[record.child_name] = max(record.generation, self.recorded(record.child_name))

    def _append(self, lines: bytes) -> None:
        if self._size and self._size + len(lines) > self._max_bytes:
            self._rotate()
        try:
            files.write_all(self._descriptor, lines)
            # fail-point: master.journal-appended: the history file has records that no tally knows
        except OSError:
            os.ftruncate(self._descriptor, self._size)  # no half line: the whole batch is tried again
            raise
        self._size += len(lines)

    def _rotate(self) -> None:
        self._write_tally()  # it must know all of a history file that a second rotation would remove
        with suppress(FileNotFoundError):  # a former attempt got as far as this
            self._path.replace(self._old_path)
        former = self._descriptor
        self._descriptor, self._size = _open(self._path)
        os.close(former)

    def _write_tally(self) -> None:
        summary = _Summary(
            inode=os.fstat(self._descriptor).st_ino,
            offset=self._size,
            recorded=self._recorded,
            counts=list(self._counts.items()),
        )
        files.replace(self._tally_path, msgspec.json.encode(summary))
        self._behind = False

    def _catch_up(self) -> None:
        summary = _read_summary(self._tally_path)
        self._recorded = dict(summary.recorded)
        self._counts.update(dict(summary.counts))
        behind = list(self._after(summary))
        for record in behind:
            self._count(record)
        if behind:
            self._write_tally()

    def _after(self, summary: _Summary) -> Iterator[ExitRecord]:
        if os.fstat(self._descriptor).st_ino == summary.inode:
            yield from _read(self._path, summary.offset)
            return
        if self._old_path.exists() and self._old_path.stat().st_ino == summary.inode:
            yield from _read(self._old_path, summary.offset)
        yield from _read(self._path, 0)


def _open(path: Path) -> tuple[int, int]:
    """The history file for appending and its size, its last line whole."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        size += os.write(descriptor, b"\n")
    return descriptor, size


def _read_summary(path: Path) -> _Summary:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Summary)
    except FileNotFoundError:
        return _Summary()
    except msgspec.MsgspecError as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        _logger.error("%s: cannot be read (%s): set aside as %s, counted again from exits.jsonl", path, error, aside)
        return _Summary()


def _read(path: Path, offset: int) -> Iterator[ExitRecord]:
    with path.open("rb") as journal:
        journal.seek(offset)
        yield from records(journal, msgspec.json.Decoder(ExitRecord).decode)
