"""What memory there is, as files of the kernel have it: cgroups of both versions, nested and seen from inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.system.memory import MACHINE, Room, rooms

MIB = 1024**2


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Folders in place of /proc and /sys/fs/cgroup, on a machine of 1 GiB."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  1048576 kB\nMemFree: 1 kB\nMemAvailable:  524288 kB\n")
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def group(folder: Path, limit: str, used: int, inactive: int, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 1\n{prefix}inactive_file {inactive}\n")


def groups(kernel: Path, membership: str) -> list[Room]:
    (kernel / "proc/self/cgroup").write_text(membership)
    machine, *others = rooms(None, kernel / "cgroup", kernel / "proc")
    assert machine == Room(1024 * MIB, 512 * MIB, MACHINE)
    return others


def test_all_limits_on_the_way_to_the_root_count(kernel: Path) -> None:
    root = kernel / "cgroup"
    group(root / "a/b/c", "max", 0, 0)
    group(root / "a/b", str(300 * MIB), 200 * MIB, 50 * MIB)
    group(root / "a", str(400 * MIB), 390 * MIB, 0)
    assert [room[:2] for room in groups(kernel, "0::/a/b/c\n")] == [
        (300 * MIB, 150 * MIB),
        (400 * MIB, 10 * MIB),
    ]


@pytest.mark.parametrize("path", ["/docker/0123", "/", "/../../x"])
def test_in_a_container_the_visible_root_is_its_own_group(kernel: Path, path: str) -> None:
    group(kernel / "cgroup", str(200 * MIB), 50 * MIB, 10 * MIB)
    (room,) = groups(kernel, f"0::{path}\n")
    assert room[:2] == (200 * MIB, 160 * MIB)
    assert "memory.max" in room.of


def test_version_1_has_names_of_its_own_and_a_large_number_for_no_limit(kernel: Path) -> None:
    root = kernel / "cgroup/memory"
    group(root / "a", str(300 * MIB), 100 * MIB, 50 * MIB, version=1)
    group(root, "9223372036854771712", 0, 0, version=1)
    (room,) = groups(kernel, "5:cpu,cpuacct:/x\n4:memory:/a\n0::/\n")
    assert room[:2] == (300 * MIB, 250 * MIB)


@pytest.mark.parametrize("membership", ["", "0::/\n", "4:memory:/gone\n"])
def test_without_a_limit_there_is_the_machine_alone(kernel: Path, membership: str) -> None:
    assert groups(kernel, membership) == []


def test_a_group_above_its_limit_has_nothing_left(kernel: Path) -> None:
    group(kernel / "cgroup", str(100 * MIB), 120 * MIB, 0)
    assert groups(kernel, "0::/\n")[0].available_bytes == 0


def test_a_process_that_is_gone_has_the_machine_alone() -> None:
    (machine,) = rooms(2**22 + 1)
    assert machine.of == MACHINE
    assert 0 < machine.available_bytes < machine.limit_bytes
