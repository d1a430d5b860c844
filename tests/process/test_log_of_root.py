"""Root starts the daemon for another user: files that its log path or a directory leads to keep their owner."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.master.host.privileges import open_log, prepare_directory
from supervisor.system.accounts import Account, acting_as
from tests.support.dropping import GID, UID, dropping
from tests.support.forked import forked
from tests.support.nobody import a_public_folder, needs_root

pytestmark = [pytest.mark.root, needs_root]

THEM = Account(UID, GID, [GID])


@pytest.fixture
def folder() -> Iterator[Path]:
    with a_public_folder() as made:
        yield made


@pytest.fixture
def theirs(folder: Path) -> Path:
    """A directory of the daemon's user."""
    (folder / "theirs").mkdir()
    os.chown(folder / "theirs", UID, GID)
    return folder / "theirs"


@pytest.fixture
def victim(folder: Path) -> Path:
    """A file of root's that no other user may read."""
    path = folder / "victim"
    path.write_text("root's\n")
    path.chmod(0o600)
    return path


def said(action: Callable[[], object]) -> str:
    """What a fork says of this (this process has threads, and stays root): "ok", or the error."""
    told, tell = os.pipe()

    def run() -> None:
        try:
            action()
            text = "ok"
        except StateError as error:
            text = str(error)
        os.write(tell, text.encode())

    with forked(run) as pid:
        os.waitpid(pid, 0)
    os.close(tell)
    with os.fdopen(told) as words:
        return words.read()


def assert_untouched(victim: Path) -> None:
    found = victim.stat()
    assert (found.st_uid, found.st_mode & 0o777, victim.read_text()) == (0, 0o600, "root's\n")


def append(path: Path) -> None:
    os.write(open_log(path, THEM), b"a line\n")


@pytest.mark.parametrize("link", ["symbolic", "hard", "through a directory"])
def test_a_link_in_the_log_path_gives_nothing_of_roots_away(theirs: Path, victim: Path, link: str) -> None:
    log = theirs / "log"
    if link == "symbolic":
        log.symlink_to(victim)
    elif link == "hard":
        os.link(victim, log)
    else:
        (theirs / "logs").symlink_to(victim.parent)
        log = theirs / "logs" / "victim"
    assert f"with the rights of uid {UID}: Permission denied" in said(lambda: append(log))
    assert_untouched(victim)


def test_a_dangling_link_makes_no_file_where_only_root_may(theirs: Path, folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    (theirs / "log").symlink_to(folder / "private" / "new")
    assert "Permission denied" in said(lambda: append(theirs / "log"))
    assert list((folder / "private").iterdir()) == []


def test_a_log_without_a_reader_is_not_waited_for(theirs: Path) -> None:
    os.mkfifo(theirs / "log")
    os.chown(theirs / "log", UID, GID)
    assert "log: the log cannot be opened" in said(lambda: append(theirs / "log"))


def test_a_log_in_a_directory_of_the_user_is_made_by_the_user(theirs: Path) -> None:
    assert said(lambda: append(theirs / "log")) == "ok"
    found = (theirs / "log").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (UID, GID, 0o640)


def test_a_log_in_a_directory_of_roots_is_made_for_the_user(folder: Path) -> None:
    """As /var/log is."""
    assert said(lambda: append(folder / "log")) == "ok"
    found = (folder / "log").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (UID, GID, 0o640)
    assert (folder / "log").read_text() == "a line\n"


def test_a_log_of_roots_that_is_there_already_is_not_given_away(victim: Path) -> None:
    text = said(lambda: append(victim))
    assert f"if this is intended: chown {UID} {victim}" in text
    assert_untouched(victim)


def test_in_a_sticky_directory_a_file_of_another_user_is_not_taken_for_the_log(folder: Path) -> None:
    """As /tmp is."""
    folder.chmod(0o1777)
    (folder / "log").touch()
    os.chown(folder / "log", UID + 7, GID)
    assert "the log cannot be opened" in said(lambda: append(folder / "log"))
    assert said(lambda: append(folder / "another")) == "ok"


def test_where_another_user_could_write_root_makes_no_log(theirs: Path) -> None:
    theirs.chmod(0o555)
    assert f"root makes no file where uid {UID} (it owns {theirs})" in said(lambda: append(theirs / "log"))
    assert list(theirs.iterdir()) == []


def test_a_link_to_the_users_own_log_is_followed_with_the_users_rights(theirs: Path, folder: Path) -> None:
    (theirs / "log").touch()
    os.chown(theirs / "log", UID, GID)
    (folder / "log").symlink_to(theirs / "log")
    assert said(lambda: append(folder / "log")) == "ok"
    assert (theirs / "log").read_text() == "a line\n"


# ---- directories ----------------------------------------------------------------------------------------------------


def test_a_directory_below_one_of_the_users_is_made_by_the_user(theirs: Path) -> None:
    assert said(lambda: prepare_directory(theirs / "a" / "state", THEM)) == "ok"
    for name in ("a", "a/state"):
        assert ((theirs / name).stat().st_uid, (theirs / name).stat().st_gid) == (UID, GID)


def test_no_directory_is_made_through_a_link_where_only_root_may(theirs: Path, folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    (theirs / "a").symlink_to(folder / "private")
    assert "cannot be made or used" in said(lambda: prepare_directory(theirs / "a" / "state", THEM))
    assert list((folder / "private").iterdir()) == []
    assert (folder / "private").stat().st_uid == 0


def test_a_link_to_a_directory_of_roots_is_no_directory_of_the_daemons(theirs: Path, folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    (theirs / "state").symlink_to(folder / "private")
    assert "belongs to uid 0" in said(lambda: prepare_directory(theirs / "state", THEM))
    assert (folder / "private").stat().st_uid == 0


def test_a_directory_of_roots_that_a_group_may_write_is_refused_for_roots_own_daemon(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state").chmod(0o770)
    assert "group 0 can write to root's directory" in said(lambda: prepare_directory(folder / "state", None))


def test_who_acts_as_another_has_no_rights_of_roots_and_has_them_back_after(victim: Path) -> None:
    def look() -> None:
        groups = os.getgroups()
        with acting_as(THEM):
            if os.access(victim, os.R_OK, effective_ids=True) or os.getgroups() != [GID]:
                raise StateError("still root")
        if (os.geteuid(), os.getegid(), os.getgroups()) != (0, 0, groups):
            raise StateError("not root again")

    assert said(look) == "ok"


# ---- the whole start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["start", "run"])
def test_a_start_through_a_link_is_refused_and_leaves_the_file_alone(verb: str) -> None:
    with dropping(log='file = "state/daemon.log"') as under_test:
        secret = under_test.folder / "secret"
        secret.write_text("root's\n")
        secret.chmod(0o600)
        (under_test.folder / "state").mkdir()
        (under_test.folder / "state" / "daemon.log").symlink_to(secret)
        os.chown(under_test.folder / "state", UID, GID)
        refused = under_test.cli(verb)
        assert refused.returncode == 1
        assert "daemon.log: the log cannot be opened with the rights of uid" in refused.stderr
        assert_untouched(secret)
        assert under_test.pids() == {}


def test_stop_by_root_signals_no_process_that_the_daemons_user_names() -> None:
    with dropping() as under_test, forked(lambda: os.read(os.pipe()[0], 1)) as roots:
        (under_test.folder / "run").mkdir()
        ticks = Path(f"/proc/{roots}/stat").read_text().rpartition(")")[2].split()[19]
        (under_test.folder / "run" / "preforkd.pid").write_text(f"{roots} {ticks}\n")
        os.chown(under_test.folder / "run", UID, GID)
        os.chown(under_test.folder / "run" / "preforkd.pid", UID, GID)
        stopped = under_test.cli("stop")
        assert "not running" in stopped.stdout, stopped.stderr
        assert os.waitpid(roots, os.WNOHANG) == (0, 0)
