"""The mark by which descendants are known: handed down through everything; only privileged processes change it."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.system import descent, posix
from supervisor.system.descent import Descent, pool_code, shortcomings
from tests.support.forked import forked


def in_a_child(function: Callable[[], bool]) -> bool:
    """Whether `function` is true in a process of its own."""

    def run() -> None:
        assert function()

    with forked(run) as pid:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status == 0  # type: ignore[union-attr]


def test_a_descendant_has_its_ancestors_mark_in_another_session_and_without_environment() -> None:
    def child() -> bool:
        descent.mark("email")
        descent.mark("email", 7)
        with subprocess.Popen(["setsid", "sleep", "1000"], env={}) as process:
            found = descent.descent(process.pid)
            process.kill()
        return found == Descent(pool_code("email"), 7)

    assert in_a_child(child)


def test_a_zombie_still_has_its_mark() -> None:
    with forked(lambda: descent.mark("email", 3)) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert descent.descent(pid) == Descent(pool_code("email"), 3)


def test_a_process_without_the_mark_is_no_descendant() -> None:
    assert descent.descent(os.getpid()) is None


def test_a_forkservers_mark_names_no_generation_and_its_workers_lower_it_to_theirs() -> None:
    def child() -> bool:
        descent.mark("email")
        first = descent.descent(os.getpid())
        descent.mark("email", 2**32 - 2)
        return (first, descent.descent(os.getpid())) == (
            Descent(pool_code("email"), None),
            Descent(pool_code("email"), 2**32 - 2),
        )

    assert in_a_child(child)


def test_under_a_limit_of_another_program_there_is_no_mark_and_that_is_known() -> None:
    def child() -> bool:
        resource.setrlimit(resource.RLIMIT_RTTIME, (1000, 1000))
        os.setresuid(65534, 65534, 65534)
        descent.mark("email")
        return not descent.possible() and descent.descent(os.getpid()) is None

    assert os.geteuid() != 0 or in_a_child(child)


def test_children_are_found_also_where_the_kernel_has_no_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with forked(lambda: None) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        listed = posix.own_children()
        monkeypatch.setattr(posix, "_children_file", lambda: Path("/proc/0/children"))
        assert pid in listed
        assert sorted(posix.own_children()) == sorted(listed)
        assert [text for text in shortcomings() if "CONFIG_PROC_CHILDREN" in text]


def test_an_ordinary_machine_lacks_nothing() -> None:
    assert list(shortcomings()) == []


def test_a_limit_of_another_program_is_told() -> None:
    def child() -> bool:
        resource.setrlimit(resource.RLIMIT_RTTIME, (1000, 1000))
        return any("RLIMIT_RTTIME" in text for text in shortcomings())

    assert in_a_child(child)
