"""The files to which the children of a pool dump their stacks. Master only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from supervisor.master.host import files
from supervisor.master.pool.children import Child
from supervisor.system.stacks import STACK_BYTES, users_frames


class Dumps:
    """A file for each slot, and one for the forkserver started last."""

    def __init__(self, directory: Path) -> None:
        """Raises StateError when the directory cannot be made."""
        files.make_directory(directory)
        self._directory = directory

    def path(self, slot: int) -> Path:
        """Where the worker with this slot dumps its stacks."""
        return self._directory / f"{slot}.txt"

    def of(self, child: Child) -> str:
        """The stacks that a worker, or the forkserver started last, has dumped, the beginning of a long text."""
        if child.slot is not None:
            return users_frames(_beginning_of(self.path(child.slot)))
        return _beginning_of(self._directory / "forkserver.txt")


def _beginning_of(dump: Path) -> str:
    with suppress(OSError), dump.open("rb") as text:
        return text.read(STACK_BYTES).decode(errors="replace")
    return ""
