"""Numbers for the lives of children, unique in the life of a state directory, per pool. Used by the master.

A number is used only below a bound that is in a file already, so a killed daemon brings no number back; the bound moves
in large steps, so that a start costs a write only now and then. The file is not synced, for no start may wait for a
disk: after another boot its bound may be an old one, or be missing, and counting goes on far above it.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.errors import StateError
from supervisor.master.host import files
from supervisor.system import posix

STEP = 1000

REBOOT_STEP = 100_000
"""More numbers than can be given out before the kernel writes a file back by itself (30 s)."""


class Generations:
    """The counter of one pool, kept in its directory."""

    def __init__(self, pool_dir: Path, floor: int) -> None:
        """`floor`: the largest generation that any slot or record knows. Raises StateError when the file is damaged."""
        self._path = pool_dir / "generation"
        bound, boot_id = self._read()
        self._last = self._bound = max(floor, bound)
        if self._last and boot_id != posix.boot_id():
            self._last = self._bound = self._last + REBOOT_STEP

    def next(self) -> int:
        """A number that was never given out before. Raises StateError when the bound cannot be moved (full disk)."""
        if self._last >= self._bound:
            bound = self._last + STEP
            try:
                files.replace(self._path, f"{bound} {posix.boot_id()}\n".encode())
            except OSError as error:
                raise StateError(f"{self._path}: cannot be written: {error.strerror}; free some space") from error
            # fail-point: master.start-bound-moved: numbers are reserved, none is given out
            self._bound = bound
        self._last += 1
        return self._last

    def _read(self) -> tuple[int, str]:
        """The bound, and the boot in which it was written."""
        try:
            bound, _space, boot_id = self._path.read_bytes().decode().partition(" ")
            return int(bound) if bound.strip("\0\n") else 0, boot_id.strip()
        except FileNotFoundError:
            return 0, ""
        except (OSError, ValueError) as error:
            raise StateError(
                f"{self._path}: cannot be read ({error}): write a number into it that is above every "
                "generation in exits.jsonl"
            ) from error
