"""What a user types in a folder of their own, where `preforkd` is a command as it is after an installation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def with_command(folder: Path, python: str = sys.executable, options: str = "") -> Path:
    """Make `preforkd` a command in a folder below this one, which is given back: for a PATH."""
    command = folder / "bin" / "preforkd"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {python} -P -m supervisor {options} "$@"\n')
    command.chmod(0o755)
    return command.parent


class Shell:
    """A folder and who types there; `prefix` makes a command theirs."""

    def __init__(self, folder: Path, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self._environment = environment
        self._prefix = prefix

    def types(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run shell commands; they end at the first that fails."""
        return subprocess.run(
            [*self._prefix, "sh", "-ec", commands],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ok(self, commands: str) -> str:
        """Shell commands that must succeed; their output."""
        done = self.types(commands)
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout
