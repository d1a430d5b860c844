"""Numbers for the lives of children, unique in the life of a state directory, per pool. Used by the master.

A number is used only below a bound that is on disk already, so that neither a killed daemon nor a lost power line
can bring an old one back; the bound moves in large steps, so that a start costs a write only now and then.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.errors import StateError
from supervisor.master import files

STEP = 1000


class Generations:
    """The counter of one pool, kept in its directory."""

    def __init__(self, pool_dir: Path, floor: int) -> None:
        """`floor`: the largest generation that any slot or record knows. Raises StateError when the file is damaged."""
        self._path = pool_dir / "generation"
        self._last = self._bound = max(floor, self._read())

    def next(self) -> int:
        """A number that was never given out before. Raises StateError when the bound cannot be moved (full disk)."""
        if self._last >= self._bound:
            self._reserve(self._last + STEP)
        self._last += 1
        return self._last

    def _reserve(self, bound: int) -> None:
        try:
            files.replace(self._path, b"%d\n" % bound)
        except OSError as error:
            raise StateError(f"{self._path}: cannot be written: {error.strerror}; free some space") from error
        # fail-point: master.start-bound-moved: numbers are reserved, none is given out
        self._bound = bound

    def _read(self) -> int:
        try:
            return int(self._path.read_bytes())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StateError(
                f"{self._path}: cannot be read ({error}): write a number into it that is above every "
                "generation in exits.jsonl"
            ) from error
