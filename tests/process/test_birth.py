"""Births that go wrong: the forkserver is told why, waits for ever for nobody, and leaves no child behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from supervisor import posix
from supervisor.forkserver import birth
from supervisor.forkserver.birth import Cradle, NotBorn, give_birth
from tests.support.pools import subreaper
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Whatever a birth leaves becomes our child, as it would become the master's."""
    before = set(posix.own_children())
    with subreaper():
        yield
        for pid in set(posix.own_children()) - before:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def settled_for_good(cradle: Cradle) -> NoReturn:
    cradle.settled()
    while True:
        signal.pause()


def dead_at_once(cradle: Cradle) -> NoReturn:
    os._exit(7)


def silent(cradle: Cradle) -> NoReturn:
    while True:
        signal.pause()


def without_a_slot(cradle: Cradle) -> NoReturn:
    cradle.refused("the slot is locked by pid 7: ☃")
    os._exit(0)


def test_a_worker_that_settled_is_known_by_its_pid_and_becomes_an_orphan() -> None:
    pid = give_birth(settled_for_good)
    eventually(lambda: posix.is_child(pid), "the worker is adopted")
    assert pid in posix.own_children()


FAILURES = {
    "dead": (dead_at_once, "ended with status 7"),
    "silent": (silent, "did not take its slot within 0.2 s and ended by SIGKILL"),
    "refused": (without_a_slot, "the slot is locked by pid 7: ☃"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_birth_that_fails_is_told_and_leaves_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, reason = FAILURES[case]
    monkeypatch.setattr(birth, "_WORD_S", 0.2)
    before = posix.own_children()
    with pytest.raises(NotBorn, match=reason):
        give_birth(worker)
    assert posix.own_children() == before


def test_a_worker_whose_intermediate_was_killed_cannot_settle(tmp_path: Path) -> None:
    note = tmp_path / "note"

    def bereft(cradle: Cradle) -> NoReturn:
        os.kill(cradle.parent_pid, signal.SIGKILL)
        while os.getppid() == cradle.parent_pid:
            os.sched_yield()
        try:
            cradle.settled()
        except OSError as error:
            note.write_text(error.strerror or "")
        os._exit(0)

    with pytest.raises(NotBorn, match="died or did not answer"):
        give_birth(bereft)
    eventually(note.exists, "the worker notices")
    eventually(note.read_text, "and says so")
    assert note.read_text() == "Broken pipe"
