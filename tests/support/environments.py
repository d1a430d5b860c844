"""Virtual environments that tests make: with another Python, or with other versions of preforkd's dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.source_tree import ROOT

_INSTALL_S = 300.0


class Environment:
    """A virtual environment in a new `folder`, made by `python`."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        subprocess.run([python, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=_INSTALL_S)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin/python"

    def install(self, *arguments: str) -> None:
        """Let pip install these; an AssertionError has pip's text."""
        told = self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments, cwd=ROOT)
        assert told.returncode == 0, told.stdout + told.stderr

    def import_from(self, folder: Path) -> None:
        """Let all its processes import from `folder`, which is not installed."""
        (packages,) = self.folder.glob("lib/python*/site-packages")
        (packages / "checkout.pth").write_text(f"{folder}\n")

    def run(self, *arguments: str, cwd: Path, timeout_s: float = _INSTALL_S) -> subprocess.CompletedProcess[str]:
        """Run its Python; nothing of the checkout or of the caller's environment is on its path."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout_s)

    def version(self, distribution: str) -> str:
        """The installed version of a distribution."""
        code = f"from importlib.metadata import version; print(version({distribution!r}), end='')"
        return self.run("-c", code, cwd=self.folder).stdout
