"""What root may believe of a path: no other user can change the file, a directory on the way, or a link on the way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.system.trust import changeable_by

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")]

OTHER_USER = 12345


@pytest.fixture
def folder() -> Iterator[Path]:
    """Root's own, below /tmp, where all users may write (sticky)."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


def a_file(path: Path, mode: int = 0o600, owner: int = 0) -> Path:
    path.touch()
    path.chmod(mode)
    os.chown(path, owner, -1)
    return path


def test_what_is_roots_all_the_way_is_changed_by_no_other_user(folder: Path) -> None:
    (folder / "etc").mkdir(mode=0o755)
    assert changeable_by(a_file(folder / "etc" / "file", 0o644)) == ""
    assert changeable_by(folder / "etc" / "not there yet") == ""
    assert changeable_by(Path("/etc/passwd")) == ""


Case = tuple[Callable[[Path], object], str]

CASES: dict[str, Case] = {
    "a file that its group may write": (lambda file: file.chmod(0o660), "group 0 (chmod g-w {}/a/file)"),
    "a file that all users may write": (lambda file: file.chmod(0o666), "all users (chmod o-w {}/a/file)"),
    "a file of another user": (lambda file: os.chown(file, OTHER_USER, -1), f"uid {OTHER_USER} (it owns {{}}/a/file)"),
    "a directory that its group may write": (lambda file: file.parent.chmod(0o770), "group 0 (chmod g-w {}/a)"),
    "a directory that all users may write": (lambda file: file.parent.chmod(0o777), "all users (chmod o-w {}/a)"),
    "a directory of another user": (
        lambda file: os.chown(file.parent, OTHER_USER, -1),
        f"uid {OTHER_USER} (it owns {{}}/a)",
    ),
    "a sticky directory of another user": (
        lambda file: (os.chown(file.parent, OTHER_USER, -1), file.parent.chmod(0o1777)),
        f"uid {OTHER_USER} (it owns {{}}/a)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_who_could_change_it_is_named(folder: Path, case: str) -> None:
    change, said = CASES[case]
    (folder / "a").mkdir(mode=0o700)
    change(a_file(folder / "a" / "file"))
    assert changeable_by(folder / "a" / "file") == said.format(folder)


def test_in_roots_sticky_directory_others_cannot_replace_what_is_roots(folder: Path) -> None:
    folder.chmod(0o1777)
    assert changeable_by(a_file(folder / "file")) == ""
    assert "it owns" in changeable_by(a_file(folder / "theirs", owner=OTHER_USER))


@pytest.mark.parametrize("absolute", [True, False])
def test_links_of_roots_are_followed_and_what_they_lead_to_is_looked_at(folder: Path, absolute: bool) -> None:
    """As secrets are mounted in Kubernetes: file -> ..data/file, ..data -> ..2026."""
    (folder / "..2026").mkdir(mode=0o755)
    file = a_file(folder / "..2026" / "file")
    (folder / "..data").symlink_to(folder / "..2026" if absolute else "..2026")
    (folder / "file").symlink_to("..data/file")
    assert changeable_by(folder / "file") == ""
    file.chmod(0o660)
    assert "..2026/file" in changeable_by(folder / "file")


def test_a_link_of_another_user_is_theirs_whatever_it_leads_to(folder: Path) -> None:
    folder.chmod(0o1777)
    (folder / "link").symlink_to("/etc/passwd")
    os.chown(folder / "link", OTHER_USER, -1, follow_symlinks=False)
    assert changeable_by(folder / "link") == f"uid {OTHER_USER} (it owns {folder}/link)"


def test_dots_are_taken_where_the_link_leads_and_not_where_it_lies(folder: Path) -> None:
    (folder / "theirs" / "deep").mkdir(parents=True)
    a_file(folder / "theirs" / "file")
    os.chown(folder / "theirs", OTHER_USER, -1)
    (folder / "link").symlink_to("theirs/deep")
    a_file(folder / "file")
    assert changeable_by(folder / "link" / ".." / "file") == f"uid {OTHER_USER} (it owns {folder}/theirs)"


def test_links_in_a_circle_have_an_end(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert "too many links" in changeable_by(folder / "a")


def test_the_file_itself_may_belong_to_the_one_who_is_named_and_nothing_on_the_way(folder: Path) -> None:
    file = a_file(folder / "file", 0o400, OTHER_USER)
    assert changeable_by(file, OTHER_USER) == ""
    assert changeable_by(file, OTHER_USER + 1) != ""
    (folder / "link").symlink_to(file)
    assert changeable_by(folder / "link", OTHER_USER) == ""
    os.chown(folder, OTHER_USER, -1)
    assert changeable_by(file, OTHER_USER) != ""
