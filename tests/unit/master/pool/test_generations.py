"""Generations: no number comes twice, whatever happened to the daemon between two of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.master.host import files
from supervisor.master.pool.generations import REBOOT_STEP, STEP, Generations


def test_numbers_rise_from_one(tmp_path: Path) -> None:
    generations = Generations(tmp_path, 0)
    assert [generations.next() for _ in range(3)] == [1, 2, 3]


def test_a_killed_daemon_brings_no_number_back(tmp_path: Path) -> None:
    used: list[int] = []
    for uses in (1, STEP - 1, STEP, STEP + 1, 3):
        generations = Generations(tmp_path, 0)
        used += [generations.next() for _ in range(uses)]
    assert len(set(used)) == len(used)
    assert used == sorted(used)


def test_numbers_start_above_what_slots_and_history_know(tmp_path: Path) -> None:
    used = Generations(tmp_path, 0).next()
    assert used < Generations(tmp_path, 4711).next() == 4712


@pytest.mark.parametrize("left", [b"1000 another-boot\n", b"1000\n", b"", b"\0" * 8])
def test_after_another_boot_numbers_start_far_above_what_may_be_an_old_bound(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "generation").write_bytes(left)
    first = Generations(tmp_path, 700).next()
    assert first > 700 + REBOOT_STEP
    assert Generations(tmp_path, 700).next() == first + STEP, "once for each boot"


def test_a_disk_that_takes_seconds_for_a_sync_holds_up_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(descriptor: int) -> None:
        raise AssertionError("no process waits for the disk")

    for call in ("fdatasync", "fsync", "sync"):
        monkeypatch.setattr(os, call, slow)
    assert Generations(tmp_path, 0).next() == 1


def test_a_full_disk_gives_out_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = Generations(tmp_path, 0)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", full)
        with pytest.raises(StateError, match="free some space"):
            generations.next()
    assert generations.next() == 1


def test_a_damaged_counter_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "generation").write_text("many")
    with pytest.raises(StateError, match="write a number into it"):
        Generations(tmp_path, 0)
