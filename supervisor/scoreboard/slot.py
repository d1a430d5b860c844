"""A worker's slot file: the kernel lock on it lasts as long as the worker, its marks outlive every process.

Opened by the worker (which alone takes the lock), its consumer and the master; `layout.py` draws the bytes. Every field
has one writer. Marks are plain stores into shared memory: they cost no system call and survive the death of any
process, but not a power loss, so marks of another boot prove nothing (`marks_complete_since`). All slots together are
the scoreboard.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from supervisor.link.frames import RunId
from supervisor.scoreboard import layout
from supervisor.scoreboard.layout import END, GROUP, HEAD, INTENT, LEAVING, TAIL
from supervisor.scoreboard.mapping import MappedFile, PositionalFile, fault_of, is_at_path, set_aside
from supervisor.scoreboard.words import Cell, Identity, Intent, LeavingReason, LimitSource, OutcomeKind, Running
from supervisor.system import posix
from supervisor.system.locks import lock, lock_owner

T = TypeVar("T")
_Copies = tuple[slice, slice]
_TRIES = 100
"""Reads of a field before it counts as broken. A concurrent writer spoils only a few in a row."""


class Slot:
    """One open slot file; a worker keeps the object as long as it lives, because of the lock.

    `make`: create a missing file and replace an unreadable one; otherwise both raise StateError. Only the master does
    so: two files of one name would be two locks for one slot. Raises StateError also for a full disk, for lack of
    permission and for a file in use by another version.

    `mapped`: for the worker, whose marks cost no system call. Other processes read and write the file, and survive
    damage to it; without `make` they open it unchecked.

    `damage`: the damage found at this opening, for the log, or "". `marks_complete_since` tells, across openings,
    whether the absence of a mark proves anything.
    """

    def __init__(self, path: Path, *, make: bool = True, mapped: bool = True) -> None:
        self.path = path
        self._closed = False
        self._open(make, mapped)
        fault = self._ring_fault()
        if fault and make:
            aside = set_aside(path)
            self._open(make, mapped)
            self.damage = f"{path}: {fault}; set aside as {aside.name} and replaced"
        elif fault:
            self.damage = f"{path}: {fault}"
        elif not self.damage:
            self.damage = self._record_fault()
        self._taken_as: Identity | None = None
        self._run: Running | None = None
        self._identity_sequence = self._running_sequence = 0

    def close(self) -> None:
        """Close the file, which drops the lock: only for a slot without a worker. Not to be used afterwards."""
        self._closed = True
        self._file.close()

    @property
    def descriptor(self) -> int:
        """The open file that carries the kernel lock."""
        descriptor: int = self._file.descriptor
        return descriptor

    # ---- the worker's side ----------------------------------------------------------------------------------------

    def take(self, pid: int, start_ticks: int, generation: int) -> bool:
        """Take the kernel lock, turn a left-over running mark into an `in_doubt` cell, write the identity.

        `start_ticks`: the worker's start time (/proc/PID/stat). Returns False if a live process has the slot. The
        order of writes matters to readers: the cell, the head (the run has ended), the new owner. Damage is wiped
        last: it must stay visible until a new owner limits complete marks to its own generation.
        """
        if not lock(self._file.descriptor):
            return False
        # fail-point: worker.slot-locked: the lock is taken, the identity is the former owner's
        former, boot = self.identity(), posix.boot_id()
        lost = self._record_fault()
        leftover = self.running()
        if leftover is not None:
            by = former.generation if former else 0
            self._append(leftover.run, by, OutcomeKind.IN_DOUBT, database=leftover.database)
        # fail-point: worker.leftover-handed-in: the former owner's run is in the ring
        since = former.since if former is not None and former.boot_id == boot and not lost else generation
        self._resume_sequences()
        self._words[GROUP] = self._words[END] = 0
        self._write_identity(
            Identity(pid, start_ticks, generation, boot, ready=False, since=since, base=self._words[HEAD])
        )
        if lost:
            self._wipe_running()
        return True

    def mark_ready(self) -> None:
        """Mark the worker as booted and ready for messages. Raises RuntimeError before `take`."""
        self._write_identity(msgspec.structs.replace(self._taken(), ready=True))

    def free_cell(self) -> bool:
        """Whether the ring has room for one more outcome; otherwise no run may begin."""
        return bool(self._words[HEAD] - self._words[TAIL] < layout.CELLS)

    def mark_running(
        self,
        run: RunId,
        message_id: str,
        started_at_s: float,
        started_s: float,
        deadline_s: float,
        source: LimitSource,
    ) -> None:
        """Mark the begin of a run: its message is in doubt until its outcome is marked.

        `started_at_s`: wall clock; `started_s`, `deadline_s`: CLOCK_MONOTONIC, `deadline_s` 0 for no limit.
        """
        number = self._words[HEAD] + 1
        self._write_run(Running(number, run, message_id, started_at_s, started_s, deadline_s, source, publishing=False))

    def mark_extended(self, deadline_s: float) -> None:
        """Mark a new deadline (CLOCK_MONOTONIC) of the present run, extended by its handler."""
        self._write_run(msgspec.structs.replace(self._begun(), deadline_s=deadline_s, source=LimitSource.EXTENDED))

    def mark_end(self, at_s: float) -> None:
        """Mark when the kernel kills this worker for its run (CLOCK_BOOTTIME, 0 for never)."""
        self._words[END] = int(at_s * 1e9)

    def mark_inbox(self, run: RunId, database: bytes) -> None:
        """Mark that this run is about to use the inbox of a database with this identity of 16 bytes.

        Raises RuntimeError if the run is over, ValueError for another length.
        """
        begun = self._begun()
        if begun.run != run:
            raise RuntimeError(f"{self.path}: {run} is over")
        self._write_run(msgspec.structs.replace(begun, database=database))

    def mark_publishing(self) -> None:
        """Mark that the handler has returned and its publishes wait for confirms: no time limit is in force."""
        self._write_run(msgspec.structs.replace(self._begun(), deadline_s=0.0, publishing=True))

    def mark_outcome(self, kind: OutcomeKind, delay_s: float | None, elapsed_s: float, text: str) -> int:
        """Mark the outcome of the present run, and return its index in the ring. I2 and I4 rest on this cell.

        `delay_s`: of a Retry, else None; `text`: reason and stack, of which both ends are kept.
        """
        begun, generation = self._begun(), self._taken().generation
        return self._append(begun.run, generation, kind, delay_s, elapsed_s, text, begun.database)

    def mark_leaving(self, reason: LeavingReason) -> None:
        """Mark why this worker is about to exit by itself."""
        self._words[LEAVING] = layout.leaving_word(reason, self._taken().generation)

    def record_group(self, pgid: int, start_ticks: int) -> None:
        """Record a process group that must end with this worker; `pgid` 0 forgets it.

        `start_ticks`: the start time of the group's leader (/proc/PID/stat).
        """
        self._words[GROUP] = layout.group_word(pgid, start_ticks)

    # ---- the consumer's side --------------------------------------------------------------------------------------

    def cells(self, start: int) -> list[Cell]:
        """Outcomes from ring index `start` to the head, oldest first.

        Overwritten cells, and cells damaged by a power loss, are left out.
        """
        head: int = self._words[HEAD]
        indices = range(max(start, head - layout.CELLS), head)
        return [cell for index in indices if (cell := self._read_cell(index)) is not None]

    @property
    def tail(self) -> int:
        """The number of outcomes of this file that are durable in the ledger."""
        tail: int = self._words[TAIL]
        return tail

    def advance_tail(self, tail: int) -> None:
        """Outcomes below `tail` are durable: their cells may be reused.

        Raises ValueError for a step back or past the head.
        """
        if self._closed:
            return  # it was damaged and has been replaced by another file
        if not self._words[TAIL] <= tail <= self._words[HEAD]:
            raise ValueError(f"{self.path}: tail {tail} is not in {self._words[TAIL]} to {self._words[HEAD]}")
        self._words[TAIL] = tail

    # ---- the master's side ----------------------------------------------------------------------------------------

    def write_intent(self, intent: Intent, generation: int) -> None:
        """Record what the master is about to do to this generation, before it sends the signal."""
        self._words[INTENT] = layout.intent_word(intent, generation)

    def owner(self) -> int | None:
        """The pid of another process that holds the kernel lock, or None. A worker does not see its own lock."""
        return lock_owner(self._file.descriptor)

    def fault(self) -> str:
        """Damage that makes all marks in the file unreliable; "" for none."""
        try:
            fault = fault_of(self._file.descriptor, layout.HEADER, layout.FILE_BYTES)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        if not fault and not any(self._ring_is_sound() for _ in range(_TRIES)):
            fault = "the ring's head and tail contradict each other"
        return f"{self.path}: {fault}" if fault else self._record_fault()

    def is_at_its_path(self) -> bool:
        """Whether the open file is still the one at `path`."""
        return is_at_path(self._file.descriptor, self.path)

    # ---- reads of all sides ---------------------------------------------------------------------------------------

    def identity(self) -> Identity | None:
        """The present or last owner of the slot; None if it was never taken."""
        record = self._read_record(layout.IDENTITY)
        return _decoded(layout.decode_identity, record[1]) if record else None

    def marks_complete_since(self, generation: int) -> bool:
        """Whether a run of this generation without a mark here has certainly not begun.

        False if the file was replaced or damaged, or the machine has rebooted since.
        """
        owner = self.identity()
        return (
            owner is not None
            and owner.since <= generation <= owner.generation
            and owner.boot_id == posix.boot_id()
            and not self._record_fault()
        )

    def running(self) -> Running | None:
        """The run that has begun and has no outcome yet, or None."""
        record = self._read_record(layout.RUNNING)
        running = _decoded(layout.decode_running, record[1]) if record else None
        if running is None or running.number <= self._words[HEAD]:  # the head comes last: a marked outcome wins
            return None
        return running

    def end_s(self) -> float:
        """When the kernel kills the worker for its run (CLOCK_BOOTTIME), 0 for never."""
        end_s: float = self._words[END] / 1e9
        return end_s

    def leaving(self, generation: int) -> LeavingReason | None:
        """Why this generation leaves; None if it has recorded no reason."""
        return layout.leaving_of(self._words[LEAVING], generation)

    def intent(self, generation: int) -> Intent:
        """The last intent of the master for this generation."""
        return layout.intent_of(self._words[INTENT], generation)

    def group(self) -> tuple[int, int] | None:
        """The recorded process group as (pgid, start ticks of its leader), or None."""
        return layout.group_of(self._words[GROUP])

    @property
    def handled(self) -> int:
        """The number of outcomes that the present or last owner has marked."""
        owner = self.identity()
        return self._words[HEAD] - owner.base if owner else 0

    # ---- writing --------------------------------------------------------------------------------------------------

    def _write_identity(self, identity: Identity) -> None:
        self._taken_as = identity
        self._identity_sequence += 1
        self._write_record(layout.IDENTITY, self._identity_sequence, layout.encode_identity(identity))

    def _write_run(self, running: Running) -> None:
        self._run = running
        self._running_sequence += 1
        self._write_record(layout.RUNNING, self._running_sequence, layout.encode_running(running))

    def _write_record(self, copies: _Copies, sequence: int, payload: bytes) -> None:
        data = layout.seal(sequence, payload)
        start = copies[sequence & 1].start
        self._bytes[start : start + len(data)] = data

    def _append(
        self,
        run: RunId,
        generation: int,
        kind: OutcomeKind,
        delay_s: float | None = None,
        elapsed_s: float = 0.0,
        text: str = "",
        database: bytes = b"",
    ) -> int:
        cell = Cell(self._words[HEAD], run, generation, kind, delay_s, elapsed_s, text, database)
        data = layout.encode_cell(cell)
        start = layout.cell_at(cell.index)
        self._bytes[start : start + len(data)] = data
        # fail-point: worker.cell-written: the outcome's cell is whole, the head is still before it
        self._words[HEAD] = cell.index + 1
        self._run = None
        return cell.index

    def _resume_sequences(self) -> None:
        self._identity_sequence, self._running_sequence = (
            record[0] if (record := self._read_record(copies)) else 0 for copies in (layout.IDENTITY, layout.RUNNING)
        )

    def _wipe_running(self) -> None:
        for copy in layout.RUNNING:
            self._bytes[copy] = bytes(copy.stop - copy.start)

    def _taken(self) -> Identity:
        if self._taken_as is None:
            raise RuntimeError(f"{self.path}: only the worker that took the slot may mark it")
        return self._taken_as

    def _begun(self) -> Running:
        if self._run is None:
            raise RuntimeError(f"{self.path}: no run has begun")
        return self._run

    # ---- reading --------------------------------------------------------------------------------------------------

    def _open(self, make: bool, mapped: bool) -> None:
        kind: Any = MappedFile if mapped else PositionalFile
        self._file = kind(self.path, layout.HEADER, layout.FILE_BYTES, make=make)
        self._bytes, self._words, self.damage = self._file.bytes, self._file.words, self._file.damage

    def _copies(self, copies: _Copies) -> tuple[bytes, bytes]:
        return self._bytes[copies[0]], self._bytes[copies[1]]

    def _read_record(self, copies: _Copies) -> layout.Record | None:
        """The newest copy. A concurrent writer may spoil both under a slow reader, so broken ones are read again."""
        for _ in range(_TRIES):
            found = self._copies(copies)
            record = layout.newest(found)
            if record is not None or not layout.broken(found):
                return record
        return None

    def _read_cell(self, index: int) -> Cell | None:
        start = layout.cell_at(index)
        data = bytes(self._bytes[start : start + layout.CELL_BYTES])
        return _decoded(lambda cell: layout.decode_cell(cell, index), data)

    def _record_fault(self) -> str:
        for name, copies in (("identity", layout.IDENTITY), ("running mark", layout.RUNNING)):
            if self._read_record(copies) is None and layout.broken(self._copies(copies)):
                return f"{self.path}: both copies of the {name} are broken"
        return ""

    def _ring_fault(self) -> str:
        """Why head and tail contradict each other, as after a power loss; "" if they do not."""
        if self._ring_is_sound() or self.owner() is not None:
            return ""
        return f"the ring's head {self._words[HEAD]} and tail {self._words[TAIL]} contradict each other"

    def _ring_is_sound(self) -> bool:
        tail, head = self._words[TAIL], self._words[HEAD]  # the tail first: it follows the head
        return bool(tail <= head <= tail + layout.CELLS)


def slot_numbers(directory: Path) -> list[int]:
    """The numbers of the slot files in `directory`, in order; files with other names are ignored."""
    stems = (path.stem for path in directory.glob("*.slot"))
    return sorted(int(stem) for stem in stems if stem.isdecimal() and str(int(stem)) == stem)


def _decoded(decode: Callable[[bytes], T], data: bytes) -> T | None:
    """The decoded bytes; None for undamaged bytes of another format."""
    try:
        return decode(data)
    except (ValueError, KeyError, struct.error):
        return None
