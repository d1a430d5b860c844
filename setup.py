"""The build: what pyproject.toml says, and a file with the commit (`preforkd --version` shows it).

A wheel from a checkout asks git. A source distribution carries the file, so a wheel from it needs no git.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the build's own path leads to no source

from supervisor.cli.version import commit_of  # noqa: E402

COMMIT = "supervisor/commit.txt"


def write_commit(folder: str) -> None:
    """Write the file below `folder`, where the commit is known."""
    if found := commit_of(HERE / "supervisor"):
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
