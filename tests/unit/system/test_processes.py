"""Facts about processes: their own example, one that is gone, and one that hides what it is."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from supervisor.system import posix, processes

MIB = 1024**2
NOBODY = 2**22 + 1  # above the kernel's highest pid


@contextmanager
def no_descriptor() -> Iterator[None]:
    """No file can be opened meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_private_memory_grows_with_what_is_written() -> None:
    before = processes.private_bytes(os.getpid())
    block = bytearray(b"x" * 32 * MIB)

    assert processes.private_bytes(os.getpid()) - before > 24 * MIB
    del block


def test_private_memory_is_never_more_than_the_resident_size() -> None:
    assert 0 < processes.private_bytes(os.getpid()) <= posix.usage(os.getpid()).rss_bytes


def test_a_process_exceeds_what_is_below_its_private_memory_only() -> None:
    private = processes.private_bytes(os.getpid())

    assert processes.exceeds_memory(os.getpid(), private // 2)
    assert not processes.exceeds_memory(os.getpid(), private * 4)


def test_without_a_limit_no_run_exceeds_it() -> None:
    assert not processes.exceeds_memory(os.getpid(), 0)


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    assert posix.usage(NOBODY).rss_bytes == processes.private_bytes(NOBODY) == 0
    assert not processes.exceeds_memory(NOBODY, 1)
    assert processes.command_line(NOBODY) == ""
    assert processes.real_uid(NOBODY) is None
    assert not processes.end(NOBODY, "", 1.0)


def test_without_a_free_descriptor_nothing_is_known() -> None:
    with no_descriptor():
        known = (
            processes.private_bytes(os.getpid()),
            processes.command_line(os.getpid()),
            processes.real_uid(os.getpid()),
            processes.end(os.getpid(), "", 1.0),
        )
    assert known == (0, "", None, False)


def test_a_kernel_that_does_not_tell_private_memory_sets_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "memory_full_info", psutil.Process.memory_info)  # as psutil does there
    assert processes.private_bytes(os.getpid()) == 0
    assert not processes.exceeds_memory(os.getpid(), 1)


def test_a_process_has_its_user_and_its_command_line() -> None:
    assert processes.real_uid(os.getpid()) == os.getuid()
    assert "pytest" in processes.command_line(os.getpid())


def test_a_process_that_does_not_have_the_title_lives_on() -> None:
    assert not processes.end(os.getpid(), "preforkd: worker email/0", 1.0)
