"""Facts about lock files: one holder, named; asking disturbs no holder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.system.locks import FileLock, LockHeld, lock_holder


def test_a_lock_has_one_holder_who_is_named(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(LockHeld) as raised:
        FileLock(tmp_path / "lock")
    assert raised.value.holder == str(os.getpid())
    lock.close()


def test_a_lock_that_was_given_up_can_be_taken_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        lock = FileLock(path)
        lock.close()
        lock.close()
    assert path.exists()


def test_asking_for_the_holder_takes_nothing_from_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    assert not path.exists()
    lock = FileLock(path)
    assert lock_holder(path) == str(os.getpid())
    with pytest.raises(LockHeld):  # asking has closed a descriptor of the file, which drops no such lock
        FileLock(path)
    lock.close()
    assert lock_holder(path) is None


def test_a_holder_who_could_not_write_its_name_holds_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    path.write_bytes(b"")
    with pytest.raises(LockHeld, match=r"pid \?"):
        FileLock(path)
    lock.close()


def test_a_folder_that_is_missing_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "none" / "lock")
    assert lock_holder(tmp_path / "none" / "lock") is None
