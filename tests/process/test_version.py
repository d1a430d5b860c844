"""The commit that `preforkd --version` shows: what the build wrote, or what git says of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from supervisor.cli.version import commit_of


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package in a repository with one commit."""
    package = tmp_path / "supervisor"
    package.mkdir()
    (package / "code.py").write_text("x = 1\n")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return package


def head(package: Path) -> str:
    command = ["git", "-C", str(package), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_build_knows_the_commit_that_was_written_into_it(checkout: Path) -> None:
    (checkout / "commit.txt").write_text("0123456789\n")
    assert commit_of(checkout) == "0123456789"


def test_a_checkout_knows_its_commit(checkout: Path) -> None:
    assert commit_of(checkout) == head(checkout)[:10]


def test_changed_files_are_told(checkout: Path) -> None:
    (checkout / "code.py").write_text("x = 2\n")
    assert commit_of(checkout) == f"{head(checkout)[:10]}-dirty"


def test_a_package_within_another_repository_does_not_take_its_commit(checkout: Path) -> None:
    inner = checkout.parent / "venv/site-packages/supervisor"
    inner.mkdir(parents=True)
    assert commit_of(inner) == ""


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout) == ""
