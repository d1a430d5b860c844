"""The slot files of a pool as the master looks after them: opened, made, set aside when they are damaged. Master only.

Under a running master only the master makes slot files, as two files of one name would be two locks for one slot. A
damaged file costs its own worker, and the certainty about what that was running; never another process.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from supervisor.errors import StateError
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.host import files
from supervisor.scoreboard.mapping import FileInUse
from supervisor.scoreboard.slot import Slot, slot_numbers
from supervisor.system import descriptors, processes

_END_S = 2.0
"""How long a killed worker of a former daemon is waited for: before the loop has begun, or in a reload."""

_logger = logging.getLogger("preforkd.slots")


class Slots(Mapping[int, Slot]):
    """The open slots of a pool by number, also those beyond the wanted number of workers."""

    def __init__(self, directory: Path, wanted: int, pool: str) -> None:
        """Open all slots there are, and at least `wanted`. Raises StateError (full disk, no permission)."""
        files.make_directory(directory)
        self._directory, self._pool = directory, pool
        present = slot_numbers(directory)
        strays = {path.name for path in directory.glob("*.slot")} - {f"{number}.slot" for number in present}
        if strays:
            _logger.warning("%s: not slots of preforkd, ignored: %s", directory, ", ".join(sorted(strays)))
        numbers = sorted({*present, *range(wanted)})
        descriptors.require(len(numbers), f"pool {pool}: {len(numbers)} slots")
        self._by_number = _open_all(directory, numbers, pool)
        for number in present:
            if self[number].damage:
                _tell_damage(self[number].damage, pool, number)

    def __getitem__(self, number: int) -> Slot:
        return self._by_number[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_number)

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def youngest(self) -> int:
        """The largest generation that a slot names; 0 for none."""
        identities = (slot.identity() for slot in self.values())
        return max((identity.generation for identity in identities if identity), default=0)

    def find(self, pid: int) -> int | None:
        """The number of the slot whose identity names this process; None for none."""
        named = ((number, slot.identity()) for number, slot in self.items())
        return next((number for number, identity in named if identity is not None and identity.pid == pid), None)

    def grow(self, count: int) -> None:
        """Open slots for so many workers, made where they are missing. Raises StateError; then no file is new."""
        missing = [number for number in range(count) if number not in self]
        if not missing:
            return
        descriptors.require(len(missing), f"pool {self._pool}: {len(missing)} more workers")
        fresh = set(missing).difference(slot_numbers(self._directory))
        try:
            self._by_number |= _open_all(self._directory, missing, self._pool)
        except StateError:
            for number in fresh:
                (self._directory / f"{number}.slot").unlink(missing_ok=True)
            raise

    def mend(self, number: int) -> None:
        """Put a new file in the place of a damaged slot before the next worker takes it. Raises StateError."""
        slot = self[number]
        if slot.is_at_its_path() and not slot.fault():
            return
        fresh = _open_slot(Path(slot.path), self._pool)
        slot.close()
        _tell_damage(fresh.damage, self._pool, number)
        self._by_number[number] = fresh

    def close_unused(self, used: Collection[int]) -> None:
        """Give back the descriptors of all other slots; their files stay."""
        for number in self.keys() - used:
            self._by_number.pop(number).close()

    def close(self) -> None:
        """Give back all descriptors."""
        self.close_unused(())


def _open_all(directory: Path, numbers: Iterable[int], pool: str) -> dict[int, Slot]:
    """Raises StateError, and leaves none open then."""
    slots: dict[int, Slot] = {}
    with ExitStack() as undo:
        for number in numbers:
            slots[number] = undo.enter_context(closing(_open_slot(directory / f"{number}.slot", pool)))
        undo.pop_all()
    return slots


def _open_slot(path: Path, pool: str) -> Slot:
    """A slot file for the master, made where it is missing or damaged. Raises StateError.

    A worker of a former daemon that still uses a damaged one is ended: nothing it does could be recorded.
    """
    try:
        return Slot(path, mapped=False)
    except FileInUse as error:
        if not processes.end(error.pid, f"preforkd: worker {pool}/{path.stem}", _END_S):
            raise
    return Slot(path, mapped=False)


def _tell_damage(damage: str, pool: str, number: int) -> None:
    text = f"{damage}; what its worker was running is in doubt (on_crash)"
    log(Event.SLOT_DAMAGED, text, level=logging.ERROR, pool=pool, slot=number)
