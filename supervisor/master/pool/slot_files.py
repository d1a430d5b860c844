"""The slot files of a pool as the master looks after them: opened, made, set aside when they are damaged. Master only.

Under a running master only the master makes slot files, as two files of one name would be two locks for one slot. A
damaged file costs its own worker, and the certainty about what that was running; never another process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from supervisor.errors import StateError
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.scoreboard.mapping import FileInUse
from supervisor.scoreboard.slot import Slot, slot_numbers
from supervisor.system import descriptors, posix

_END_S = 2.0
"""How long a killed worker of a former daemon is waited for: before the loop has begun, or in a reload."""

_logger = logging.getLogger("preforkd.slots")


def open_slots(directory: Path, wanted: int, pool: str) -> dict[int, Slot]:
    """All slots there are, and at least `wanted`. Raises StateError (full disk, no permission)."""
    present = slot_numbers(directory)
    strays = {path.name for path in directory.glob("*.slot")} - {f"{number}.slot" for number in present}
    if strays:
        _logger.warning("%s: not slots of preforkd, ignored: %s", directory, ", ".join(sorted(strays)))
    numbers = sorted({*present, *range(wanted)})
    descriptors.require(len(numbers), f"pool {pool}: {len(numbers)} slots")
    slots = _open_all(directory, numbers, pool)
    for number in present:
        if slots[number].damage:
            _tell_damage(slots[number].damage, pool, number)
    return slots


def open_more(directory: Path, numbers: Sequence[int], pool: str) -> dict[int, Slot]:
    """These slots, made where they are missing. Raises StateError; then none is open, and no file is new."""
    if not numbers:
        return {}
    descriptors.require(len(numbers), f"pool {pool}: {len(numbers)} more workers")
    fresh = set(numbers).difference(slot_numbers(directory))
    try:
        return _open_all(directory, numbers, pool)
    except StateError:
        for number in fresh:
            (directory / f"{number}.slot").unlink(missing_ok=True)
        raise


def _open_all(directory: Path, numbers: Iterable[int], pool: str) -> dict[int, Slot]:
    """Raises StateError, and leaves none open then."""
    slots: dict[int, Slot] = {}
    try:
        for number in numbers:
            slots[number] = open_slot(directory / f"{number}.slot", pool)
    except StateError:
        for slot in slots.values():
            slot.close()
        raise
    return slots


def open_slot(path: Path, pool: str) -> Slot:
    """A slot file for the master, made where it is missing or damaged. Raises StateError.

    A worker of a former daemon that still uses a damaged one is ended: nothing it does could be recorded.
    """
    try:
        return Slot(path, mapped=False)
    except FileInUse as error:
        if not posix.end(error.pid, f"preforkd: worker {pool}/{path.stem}", _END_S):
            raise
    return Slot(path, mapped=False)


def mended(slot: Slot, pool: str, number: int) -> Slot:
    """The slot that the next worker is to take: this one, or a new file in its place. Raises StateError."""
    if slot.is_at_its_path() and not slot.fault():
        return slot
    fresh = open_slot(Path(slot.path), pool)
    slot.close()
    _tell_damage(fresh.damage, pool, number)
    return fresh


def _tell_damage(damage: str, pool: str, number: int) -> None:
    text = f"{damage}; what its worker was running is in doubt (on_crash)"
    log(Event.SLOT_DAMAGED, text, level=logging.ERROR, pool=pool, slot=number)
