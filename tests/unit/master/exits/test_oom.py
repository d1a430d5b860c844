"""Evidence for the out-of-memory killer, from the kernel's counters in both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.master.exits.oom import OomWatch, group_counter


@pytest.fixture
def counters(tmp_path: Path) -> tuple[Path, Path]:
    group, machine = tmp_path / "memory.events", tmp_path / "vmstat"
    write(group, 5)
    write(machine, 9)
    return group, machine


def write(path: Path, kills: int) -> None:
    path.write_text(f"low 0\noom 77\noom_kill {kills}\noom_group_kill 3\n")


def test_a_counter_that_explains_every_kill_confirms(counters: tuple[Path, Path]) -> None:
    watch = OomWatch(*counters)
    write(counters[0], 7)
    assert watch.evidence(2) == "confirmed"
    assert watch.evidence(1) == "", "a kill is evidence once"


def test_more_kills_than_the_counter_explains_are_suspected(counters: tuple[Path, Path]) -> None:
    watch = OomWatch(*counters)
    write(counters[0], 6)
    assert watch.evidence(2) == "suspected"


def test_the_whole_machines_counter_is_only_a_suspicion(counters: tuple[Path, Path]) -> None:
    watch = OomWatch(*counters)
    write(counters[1], 10)
    assert watch.evidence(1) == "suspected"


def test_counters_that_stand_still_are_no_evidence(counters: tuple[Path, Path]) -> None:
    assert OomWatch(*counters).evidence(1) == ""


def test_what_was_killed_before_is_not_counted_again(counters: tuple[Path, Path]) -> None:
    watch = OomWatch(*counters)
    write(counters[0], 6)
    assert watch.evidence(0) == ""
    assert watch.evidence(1) == ""


def test_without_counters_there_is_no_evidence(tmp_path: Path) -> None:
    assert OomWatch(None, tmp_path / "none").evidence(1) == ""


@pytest.mark.parametrize(
    ("membership", "place"),
    [
        ("0::/system.slice/preforkd.service\n", "system.slice/preforkd.service/memory.events"),
        ("0::/hidden\n", "memory.events"),
        ("4:memory:/jobs/a\n0::/\n", "memory/jobs/a/memory.oom_control"),
        ("4:memory:/hidden\n0::/\n", "memory/memory.oom_control"),
        ("9:cpu,memory:/jobs/a\n", "memory/jobs/a/memory.oom_control"),
    ],
)
def test_the_counter_of_our_own_group_is_found(tmp_path: Path, membership: str, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, 0)
    assert group_counter(membership, tmp_path) == file


def test_a_machine_without_memory_cgroups_has_no_counter(tmp_path: Path) -> None:
    assert group_counter("9:cpu:/jobs\n0::/\n", tmp_path) is None
