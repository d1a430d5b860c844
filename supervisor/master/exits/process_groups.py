"""Ends process groups that must not outlive their worker. Master only.

A group id is the pid of its leader; it is trusted only while that very process is there, a zombie at least, because
afterwards the number may be given to another group.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from supervisor.scoreboard.slot import Slot
from supervisor.system import posix


def kill_group(leader: int) -> None:
    """Kill the group of a child with the pid `leader` that was not waited for yet: until then its number is its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_group(leader: int, ticks: int) -> None:
    """Kill the group led by the process `leader` that started at `ticks`; nothing when that process has ended."""
    if posix.start_ticks(leader) == ticks:
        kill_group(leader)


def end_recorded_group(slot: Slot) -> None:
    """Kill the group that a handler put on record in its worker's slot."""
    group = slot.group()
    if group is not None:
        end_group(*group)
