"""Who may read and change a file with a secret: the rule for the broker's URL, the webhook and the web page's token."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from supervisor.system.secret_file import exposure, readable_by
from tests.support.nobody import a_public_folder

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")]

DAEMON, OTHER, GROUP = 12345, 23456, 34567


@pytest.fixture
def file() -> Iterator[Path]:
    """A file of the daemon's in a folder that all users may enter."""
    with a_public_folder() as folder:
        (folder / "etc").mkdir(mode=0o755)
        path = folder / "etc" / "secret"
        path.touch()
        yield path


def refused(path: Path, uid: int = DAEMON, owner: int | None = None) -> str:
    """The reason, "" for none; with what to do."""
    found = exposure(path, path.stat(), uid, owner)
    return "" if found is None else f"{found.reason}: {found.hint}"


class Case(NamedTuple):
    uid: int
    gid: int
    mode: int
    said: str


CASES = {
    "the daemon's own": Case(DAEMON, DAEMON, 0o600, ""),
    "its own, read-only": Case(DAEMON, DAEMON, 0o400, ""),
    "root's with a group, as a Secret with fsGroup": Case(0, GROUP, 0o440, ""),
    "root's with a group, as Debian's": Case(0, GROUP, 0o640, ""),
    "its own for a group": Case(DAEMON, GROUP, 0o640, f"group {GROUP} may read"),
    "its own for all": Case(DAEMON, DAEMON, 0o644, "all users may read"),
    "its own for all but the group": Case(DAEMON, GROUP, 0o604, "all users may read"),
    "root's for all": Case(0, 0, 0o444, "all users may read"),
    "written by a group": Case(DAEMON, GROUP, 0o620, f"group {GROUP} may write"),
    "root's, written by a group": Case(0, GROUP, 0o660, f"group {GROUP} may write"),
    "written by all": Case(DAEMON, DAEMON, 0o602, "all users may write"),
    "another user's": Case(OTHER, DAEMON, 0o600, f"belongs to uid {OTHER}"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_owner_and_mode(file: Path, case: Case) -> None:
    os.chown(file, case.uid, case.gid)
    file.chmod(case.mode)

    said = refused(file)

    assert (case.said in said) if case.said else said == ""
    assert not said or "chmod" in said or "chown" in said


def test_a_folder_that_others_cannot_enter_hides_what_is_in_it(file: Path) -> None:
    file.chmod(0o644)
    os.chown(file, 0, GROUP)
    assert "all users may read" in refused(file)

    file.parent.chmod(0o750)

    assert refused(file) == ""


def test_the_members_of_a_group_enter_where_the_group_may(file: Path) -> None:
    os.chown(file, DAEMON, GROUP)
    file.chmod(0o640)
    file.parent.chmod(0o710)
    assert refused(file) == "", "the folder is of another group"

    os.chown(file.parent, 0, GROUP)

    assert f"group {GROUP} may read" in refused(file)


def test_a_link_is_judged_by_the_folders_that_lead_to_its_end(file: Path) -> None:
    """Kubernetes mounts the keys of a Secret as links."""
    file.chmod(0o644)
    hidden = file.parent / "..data"
    hidden.mkdir(mode=0o700)
    file.rename(hidden / "secret")
    file.symlink_to("..data/secret")

    assert refused(file) == ""


def test_the_user_that_root_becomes_may_own_it_and_no_other(file: Path) -> None:
    os.chown(file, DAEMON, 0)
    file.chmod(0o600)

    assert refused(file, uid=0, owner=DAEMON) == ""
    assert f"uid {DAEMON}" in refused(file, uid=0)
    assert f"uid {DAEMON}" in refused(file, uid=0, owner=OTHER)


@pytest.mark.parametrize(
    ("uid", "mode", "readable"),
    [(DAEMON, 0o600, True), (DAEMON, 0o040, False), (OTHER, 0o640, False), (OTHER, 0o604, True), (0, 0o000, True)],
)
def test_root_finds_out_whether_another_user_may_read_it(file: Path, uid: int, mode: int, readable: bool) -> None:
    os.chown(file, DAEMON, DAEMON)
    file.chmod(mode)

    assert readable_by(file.stat(), uid) is readable
