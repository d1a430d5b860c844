"""A daemon that runs from a copy of the sources, so that a test can put other code on disk under it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.daemon import ROOT
from tests.support.versioned import Versioned


class Replaced(Versioned):
    """Its handler is changed with `deploy`, preforkd itself with `change`; the next child started has it."""

    def __init__(self, directory: Path) -> None:
        self.tree = directory / "tree"
        for name in ("supervisor", "workers"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.program = ("env", f"PYTHONPATH={self.tree}", sys.executable, "-P", "-m", "supervisor")
        super().__init__(directory, "workers = 1")

    def change(self, path: str, former: str, present: str) -> None:
        """Put another text in a source file."""
        file = self.tree / "supervisor" / path
        text = file.read_text()
        assert former in text
        file.write_text(text.replace(former, present))
