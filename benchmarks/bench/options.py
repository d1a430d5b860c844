"""What the command line asks of every section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`folder`: an empty folder of the section's own, removed when it is over, however it ends.

    `quick`: fewer rounds, for tuning; `full`: also what takes too long for every run; `seed`: for every die.
    """

    folder: Path
    seed: int = 1
    quick: bool = False
    full: bool = False

    def rounds(self, usual: int, quick: int = 1) -> int:
        """How often contestants take turns."""
        return quick if self.quick else usual
