"""The daemon's directories: made where missing, refused where another user could write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.config.schema import DaemonConfig
from supervisor.errors import StateError
from supervisor.master.host.privileges import account, prepare_directory
from supervisor.system.accounts import Account

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")


def test_a_missing_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "a" / "b", None)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 & ~0o750 == 0


def test_a_directory_that_all_users_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="chmod o-w"):
        prepare_directory(tmp_path, None)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="not a directory"):
        prepare_directory(tmp_path / "file", None)


@root
@pytest.mark.root
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(StateError, match="belongs to uid 12345"):
        prepare_directory(tmp_path, None)


@root
@pytest.mark.root
def test_root_makes_directories_for_the_daemons_user(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "state", Account(12345, 12346, []))
    found = (tmp_path / "state").stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


@root
@pytest.mark.root
def test_an_unknown_user_or_group_is_named() -> None:
    with pytest.raises(StateError, match=r"daemon\.user: there is no user 'nobody-here'"):
        account(DaemonConfig(user="nobody-here"))
    with pytest.raises(StateError, match=r"daemon\.group: there is no group 'no-group-here'"):
        account(DaemonConfig(user="nobody", group="no-group-here"))


@root
@pytest.mark.root
def test_the_account_has_its_supplementary_groups() -> None:
    target = account(DaemonConfig(user="nobody"))
    assert target is not None
    assert target.gid in target.groups


def test_without_a_user_we_stay_who_we_are() -> None:
    assert account(DaemonConfig()) is None
