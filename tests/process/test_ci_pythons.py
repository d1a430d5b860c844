"""`.ci/pythons`: a Python that is not on the machine is named, and is no failure of continuous integration."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

OTHERS = [f"3.{minor}" for minor in (11, 12, 13, 14)]


def told(folder: Path) -> list[str]:
    """The lines of a run that finds no program outside of this folder but those that every machine has."""
    for name in ("bash", "dirname"):
        (folder / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(folder), "PYENV_ROOT": str(folder), "HOME": str(folder)}
    done = subprocess.run([ROOT / ".ci/pythons"], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(autouse=True)
def on_the_python_of_make_check() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("this is not the environment of `make check`")


def absent() -> list[str]:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [f"pythons: there is no (complete) Python {version} here" for version in OTHERS if version != own]


def test_a_python_that_is_not_here_is_named_and_no_failure(tmp_path: Path) -> None:
    assert told(tmp_path) == absent()


def test_a_python_that_does_not_start_is_not_here(tmp_path: Path) -> None:
    for version in OTHERS:
        shim = tmp_path / f"python{version}"
        shim.write_text("#!/bin/sh\nexit 127\n")
        shim.chmod(0o755)
        of_pyenv = tmp_path / "versions" / f"{version}.0" / "bin"
        of_pyenv.mkdir(parents=True)
        (of_pyenv / "python").symlink_to(shim)

    assert told(tmp_path) == absent()
