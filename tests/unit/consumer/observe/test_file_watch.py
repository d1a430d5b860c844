"""Facts about noticing that files are not where they were."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.consumer.observe.file_watch import StateMissing, StateWatch
from supervisor.system.locks import lock_holder
from tests.support.descriptors import descriptors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / "slots").mkdir(parents=True)
    for name in ("ledger.db", "slots/0.slot"):
        (folder / name).write_bytes(b"x")
    return folder


def test_what_is_not_there_yet_is_watched_once_it_is(folder: Path) -> None:
    watched = watch(folder)
    (folder / "never there").write_bytes(b"x")
    watched.look()
    (folder / "never there").unlink()
    assert "never there was deleted" in watched.fault()


def test_a_closed_watch_keeps_no_descriptor_and_drops_no_lock(folder: Path) -> None:
    before = descriptors()
    with (folder / "ledger.db").open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        watch(folder).close()
        assert lock_holder(folder / "ledger.db") is not None
    assert descriptors() == before


def watch(folder: Path) -> StateWatch:
    return StateWatch(
        (folder, folder / "slots", folder / "ledger.db", folder / "never there"), (folder / "slots").glob("*.slot")
    )


def _replaced_ledger(folder: Path) -> None:
    (folder / "new").write_bytes(b"y")
    (folder / "new").replace(folder / "ledger.db")


def _renamed_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _copied_over(folder: Path) -> None:
    """As a restored snapshot does."""
    shutil.copytree(folder, folder.with_name("snapshot"))
    shutil.rmtree(folder)
    folder.with_name("snapshot").rename(folder)


MISHAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the ledger deleted": (lambda folder: (folder / "ledger.db").unlink(), "ledger.db was deleted or moved"),
    "the ledger replaced": (_replaced_ledger, "ledger.db was replaced"),
    "all deleted": (shutil.rmtree, "state was deleted or moved"),
    "the folder renamed": (_renamed_folder, "state was deleted or moved"),
    "a snapshot restored": (_copied_over, "state was replaced"),
    "slots deleted": (lambda folder: shutil.rmtree(folder / "slots"), "slots was deleted or moved"),
    "one slot deleted": (lambda folder: (folder / "slots" / "0.slot").unlink(), "0.slot was deleted or moved"),
    "a file in the way": (lambda folder: (shutil.rmtree(folder), folder.write_bytes(b"")), "state"),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_what_is_deleted_moved_or_replaced_is_named(folder: Path, mishap: str) -> None:
    strike, said = MISHAPS[mishap]
    watched = watch(folder)
    assert watched.fault() == ""
    strike(folder)
    with pytest.raises(StateMissing, match="put it back as it was, or restart"):
        watched.look()
    assert said in watched.fault()


def test_what_is_moved_back_is_as_it_was(folder: Path) -> None:
    watched = watch(folder)
    folder.rename(folder.with_name("elsewhere"))
    assert watched.fault()
    folder.with_name("elsewhere").rename(folder)
    watched.look()


def test_what_changes_inside_is_no_fault(folder: Path) -> None:
    watched = watch(folder)
    (folder / "ledger.db").write_bytes(b"more")
    (folder / "slots" / "1.slot").write_bytes(b"new")
    (folder / "slots" / "0.slot").unlink()
    (folder / "slots" / "0.slot").write_bytes(b"made by its owner")
    watched.look()
