"""Whether more workers fit into memory, by figures that a person can check."""

from __future__ import annotations

import pytest

from supervisor.cli.scale import memory_doubt
from supervisor.system.memory import MACHINE, Room

MIB = 1024**2
FREE = Room(8192 * MIB, 1000 * MIB, MACHINE)
GROUP = Room(512 * MIB, 100 * MIB, "the container or service (/sys/fs/cgroup/memory.max)")


@pytest.mark.parametrize(
    ("more", "each", "found"),
    [
        (10, 100 * MIB, [FREE]),
        (2, 50 * MIB, [FREE, GROUP]),
        (0, 9999 * MIB, [GROUP]),
        (-3, 9999 * MIB, [GROUP]),
        (99, 0, [GROUP]),
    ],
)
def test_workers_that_fit_are_no_doubt(more: int, each: int, found: list[Room]) -> None:
    assert memory_doubt("mail", more, each, found) == ""


def test_the_machine_is_named_with_all_figures() -> None:
    assert memory_doubt("mail", 11, 100 * MIB, [FREE]) == (
        "11 more worker(s) of pool mail need about 1.1GiB (100MiB each, as the largest one now); "
        "this machine has 1000MiB left of 8GiB."
    )


def test_a_containers_limit_counts_before_the_machines_free_memory() -> None:
    assert "(/sys/fs/cgroup/memory.max) has 100MiB left of 512MiB." in memory_doubt("mail", 3, 50 * MIB, [FREE, GROUP])
