"""How much memory a process has, by its own example."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.system import posix

MIB = 1024**2
NOBODY = 2**22 + 1  # above the kernel's highest pid


def test_private_memory_grows_with_what_is_written() -> None:
    before = posix.private_bytes(os.getpid())
    block = bytearray(b"x" * 32 * MIB)

    assert posix.private_bytes(os.getpid()) - before > 24 * MIB
    del block


def test_private_memory_is_never_more_than_the_resident_size() -> None:
    assert 0 < posix.private_bytes(os.getpid()) <= posix.usage(os.getpid()).rss_bytes


def test_a_process_exceeds_what_is_below_its_private_memory_only() -> None:
    private = posix.private_bytes(os.getpid())

    assert posix.exceeds_memory(os.getpid(), private // 2)
    assert not posix.exceeds_memory(os.getpid(), private * 4)


def test_without_a_limit_no_run_exceeds_it() -> None:
    assert not posix.exceeds_memory(os.getpid(), 0)


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert posix.usage(NOBODY).rss_bytes == posix.private_bytes(NOBODY) == 0
    assert not posix.exceeds_memory(NOBODY, 1)


def test_where_the_kernel_has_no_summary_the_full_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def without_summary(path: Path) -> bytes:
        if path.name == "smaps_rollup":
            raise FileNotFoundError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", without_summary)
    assert 0 < posix.private_bytes(os.getpid()) <= posix.usage(os.getpid()).rss_bytes
