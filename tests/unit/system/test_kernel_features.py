"""What an unusual kernel or container lacks is named, with what follows and what to do."""

from __future__ import annotations

import os

import pytest

from supervisor.system import descent, posix
from supervisor.system.descent import shortcomings


@pytest.fixture(autouse=True)
def _ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "start_ticks", lambda pid: 1)
    monkeypatch.setattr(posix, "lists_children", lambda: True)
    monkeypatch.setattr(descent, "possible", lambda: True)


def test_an_ordinary_linux_lacks_nothing() -> None:
    assert list(shortcomings()) == []


def test_without_proc_a_message_may_run_again_beside_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "start_ticks", lambda pid: None)
    monkeypatch.setattr(posix, "lists_children", lambda: False)

    (told,) = shortcomings()
    assert told.startswith("/proc cannot be read: ")
    assert told.endswith("; mount /proc for this process")


def test_a_kernel_without_lists_of_children_only_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "lists_children", lambda: False)

    (told,) = shortcomings()
    assert "CONFIG_PROC_CHILDREN" in told
    assert "may run again" not in told


@pytest.mark.parametrize(
    ("pid", "follows"),
    [(1, "as pid 1 it ends no process that user code leaves behind"), (7, "every orphan that the kernel hands to the")],
)
def test_a_limit_that_marks_descendants_is_named_with_what_follows(
    monkeypatch: pytest.MonkeyPatch, pid: int, follows: str
) -> None:
    monkeypatch.setattr(descent, "possible", lambda: False)
    monkeypatch.setattr(os, "getpid", lambda: pid)

    (told,) = shortcomings()
    assert told.startswith("a limit RLIMIT_RTTIME is set")
    assert follows in told
    assert told.endswith("; start preforkd without that limit")
