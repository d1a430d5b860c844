"""Slots for tests: opened and closed again, with marks that can be checked against each other, and with writers that
die between (or within) two stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.link.frames import RunId
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import Cell, LimitSource, OutcomeKind, Running

OpenSlot = Callable[[Path], Slot]


@contextmanager
def opened_slots() -> Iterator[OpenSlot]:
    """Open slots as a process does, and give their descriptors back at the end (which a process never does)."""
    descriptors: list[int] = []

    def open_slot(path: Path) -> Slot:
        slot = Slot(path)
        descriptors.append(slot._file.descriptor)
        return slot

    try:
        yield open_slot
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def run_id(seed: int) -> RunId:
    """A run whose every part follows from `seed`."""
    return RunId(seed.to_bytes(8, "big") * 3, seed + 1, seed + 2)


def mark_seeded(slot: Slot, seed: int) -> None:
    """Mark a run whose every field follows from `seed`, of varying length."""
    name = f"message-{seed}" + "x" * (seed % 200)
    slot.mark_running(run_id(seed), name, float(seed), seed + 0.5, seed + 30.0, LimitSource.POOL)


def mark_seeded_outcome(slot: Slot, seed: int) -> int:
    """Mark the outcome of the run begun with the same seed."""
    return slot.mark_outcome(OutcomeKind.FAILED, seed / 4, seed / 2, f"reason-{seed}" + "y" * (seed % 350))


def assert_seeded(running: Running) -> int:
    """All fields of a running mark belong together; returns their seed."""
    seed = running.run.round - 1
    assert running.run == run_id(seed)
    assert running.message_id == f"message-{seed}" + "x" * (seed % 200)
    assert (running.started_at_s, running.started_s, running.deadline_s) == (seed, seed + 0.5, seed + 30.0)
    return seed


def assert_seeded_cell(cell: Cell) -> int:
    """All fields of a cell belong together; returns their seed."""
    seed = cell.run.round - 1
    assert cell.run == run_id(seed)
    if cell.kind is OutcomeKind.IN_DOUBT:
        assert (cell.delay_s, cell.elapsed_s, cell.text) == (None, 0.0, "")
    else:
        text = f"reason-{seed}" + "y" * (seed % 350)
        assert (cell.kind, cell.delay_s, cell.elapsed_s, cell.text) == (OutcomeKind.FAILED, seed / 4, seed / 2, text)
    return seed


class WriterDied(BaseException):
    """Stands for a SIGKILL in the middle of a mark."""


class DyingStores:
    """In place of a slot's mapping or words: lets `budget` units of stores through, then the writer dies.

    A word is one unit; a slice is one unit a byte, as the kernel may end a process within a copy.
    """

    def __init__(self, target: Any, budget: list[int]) -> None:
        self._target = target
        self._budget = budget

    def __getitem__(self, key: Any) -> Any:
        return self._target[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, slice):
            room = max(0, min(len(value), self._budget[0]))
            self._target[key.start : key.start + room] = value[:room]
            self._budget[0] -= len(value)
        else:
            if self._budget[0] > 0:
                self._target[key] = value
            self._budget[0] -= 1
        if self._budget[0] < 0:
            raise WriterDied


def dies_after(slot: Slot, units: int, action: Callable[[], object]) -> bool:
    """Run `action` on a slot whose writer dies after that many stored units; False when it got through alive."""
    budget = [units]
    real = slot._bytes, slot._words
    slot._bytes, slot._words = DyingStores(real[0], budget), DyingStores(real[1], budget)  # type: ignore[assignment]
    try:
        action()
    except WriterDied:
        return True
    finally:
        slot._bytes, slot._words = real
    return False
