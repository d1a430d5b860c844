"""The wheel and the source distribution: what is in them, and that each works without the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from supervisor import __version__
from tests.support.environments import Environment
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

_NOT_SOURCE = shutil.ignore_patterns(".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")

_DIRECTORY = re.compile(r'^(state_dir|runtime_dir) = "[^"]*"', re.MULTILINE)
"""Directories in the template: for root they are those of the machine."""


def build(source: Path, kind: str, target: Path) -> Path:
    """The distribution of this `kind` ("wheel", "sdist") that the tree `source` makes."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--outdir", str(target), str(source)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stdout + told.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: a build leaves files in its tree."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "preforkd", ignore=_NOT_SOURCE, symlinks=True))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> dict[str, bytes]:
    """The wheel's files by name, those of its metadata left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_the_files_of_the_package_and_no_others(wheel: Path) -> None:
    folders = ("supervisor", "workers")
    tracked = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(contents(wheel)) == {*tracked.split(), "supervisor/commit.txt"}


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    assert contents(build(tree, "wheel", tmp_path / "made")) == contents(wheel)
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= {path.name for path in tree.iterdir()}


def test_an_index_takes_both(wheel: Path, sdist: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_each_installs_and_runs_a_message_without_the_checkout(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install(str(request.getfixturevalue(kind)))
    place = tmp_path / "place"
    place.mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return environment.run("-m", "supervisor", *arguments, cwd=place)

    def preforkd(*arguments: str) -> str:
        told = run(*arguments)
        assert told.returncode == 0, f"{arguments}: {told.stdout}{told.stderr}"
        return told.stdout

    assert re.fullmatch(rf"preforkd {re.escape(__version__)} \(commit \S+\)\n", preforkd("--version"))
    preforkd("init")
    config = place / "preforkd.toml"
    config.write_text(_DIRECTORY.sub(rf'\1 = "{place}/\1"', config.read_text()))
    preforkd("check")
    preforkd("start")
    try:
        (place / "jobs").write_text("hello\n")
        preforkd("publish", "default", "jobs", "--id-prefix", "job-")
        eventually(lambda: ": done" in run("why", "job-0").stdout, "the message is done")
    finally:
        preforkd("stop")
    assert f"ExecStart={environment.folder}/bin/python" in preforkd("service")
