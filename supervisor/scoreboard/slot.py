"""A worker's slot file, mapped: the kernel lock on it is the worker's life; the marks in it outlive every process.

CONTRACT (to be implemented; the layout of bytes is drawn in layout.py).
"""

from __future__ import annotations

from pathlib import Path

from supervisor.link.frames import RunId
from supervisor.scoreboard.words import Cell, Identity, Intent, LeavingReason, LimitSource, OutcomeKind, Running


class Slot:
    """One slot file, open and mapped for good (closing any descriptor of it would drop a worker's lock).

    Each field has one writer: the worker (identity, running, leaving, ring head, group), the consumer (ring tail), the master (intent).
    """

    def __init__(self, path: Path) -> None:
        """Open (create and posix_fallocate where missing) and map. Raises StateError (full disk, no permission, not a slot file)."""
        raise NotImplementedError

    damaged: bool  # found missing, from another boot, or with broken records at opening: absence of a mark proves nothing

    # ---- the worker's side ----
    def take(self, pid: int, start_ticks: int, generation: int) -> bool:
        """Take the kernel lock (POSIX), turn a left-over running mark into an in_doubt cell, write identity. False: somebody has it."""
        raise NotImplementedError

    def mark_ready(self) -> None: ...
    def free_cell(self) -> bool: ...
    def mark_running(self, run: RunId, message_id: str, started_at_s: float, started_s: float, deadline_s: float, source: LimitSource) -> None: ...
    def mark_extended(self, deadline_s: float) -> None: ...
    def mark_publishing(self) -> None: ...
    def mark_outcome(self, kind: OutcomeKind, delay_s: float | None, elapsed_s: float, text: str) -> int: ...
    def mark_leaving(self, reason: LeavingReason) -> None: ...
    def record_group(self, pgid: int, start_ticks: int) -> None: ...

    # ---- the consumer's side ----
    def cells(self, start: int) -> list[Cell]:
        """Outcomes from ring index `start` to the head."""
        raise NotImplementedError

    @property
    def tail(self) -> int: ...
    def advance_tail(self, tail: int) -> None: ...

    # ---- the master's side ----
    def write_intent(self, intent: Intent, generation: int) -> None: ...
    def owner(self) -> int | None:
        """Pid that holds the kernel lock now, or None (F_GETLK)."""
        raise NotImplementedError

    # ---- everybody's reads ----
    def identity(self) -> Identity | None: ...
    def running(self) -> Running | None:
        """The run that has begun and has no outcome yet, or None."""
        raise NotImplementedError

    def leaving(self, generation: int) -> LeavingReason | None: ...
    def intent(self, generation: int) -> Intent: ...
    def group(self) -> tuple[int, int] | None: ...
    @property
    def handled(self) -> int:
        """Outcomes marked by the present owner since it took the slot."""
        raise NotImplementedError
