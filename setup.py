"""The build: what pyproject.toml says, and a file with the commit (`preforkd --version` shows it).

A wheel from a checkout asks git. A source distribution carries the file, so a wheel from it needs no git.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
COMMIT = "supervisor/commit.txt"


def commit() -> str:
    """The commit of this source, `-dirty` where files differ from it; "" if it is not known."""
    carried = HERE / COMMIT
    if carried.is_file():
        return carried.read_text()
    if not (HERE / ".git").exists():  # in a folder of another repository, git would tell that one's commit
        return ""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or another user's checkout
        return ""


def write_commit(folder: str) -> None:
    """Write the file below `folder`, where the commit is known."""
    if found := commit():
        target = Path(folder, COMMIT)
        target.unlink(missing_ok=True)  # it may be a link to the source
        target.write_text(found)


class BuildWithCommit(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            write_commit(self.build_lib)


class SourceWithCommit(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write_commit(base_dir)


setup(cmdclass={"build_py": BuildWithCommit, "sdist": SourceWithCommit})
