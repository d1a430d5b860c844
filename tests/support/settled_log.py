"""A daemon's log as it is once its log relay has written all that was handed to it so far."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress
from pathlib import Path

from supervisor.logs.relay import FIRST_PIPE_FD
from tests.support.waiting import eventually

_NAME = "preforkd-log"


def relay_of(master: int) -> int | None:
    """The pid of the log relay of a master; None where there is none."""
    with suppress(OSError):
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return next((int(pid) for pid in children if _name(pid) == _NAME), None)
    return None


def settle_log(master: int | None) -> None:
    """Wait until the relay has nothing to do: what was logged before this call is in the log then."""
    relay = relay_of(master) if master is not None else None
    if relay is not None:
        eventually(lambda: _is_idle(relay), "the log relay has written everything")


def _is_idle(relay: int) -> bool:
    """Its pipes are empty, and each of its threads waits for something; true also where it has ended."""
    with suppress(OSError):
        return not _pending(relay) and _sleeps(relay) and not _pending(relay)
    return True


def _pending(relay: int) -> bool:
    return any(_bytes_in(Path(f"/proc/{relay}/fd/{FIRST_PIPE_FD + at}")) for at in (0, 1))


def _bytes_in(pipe: Path) -> int:
    if not pipe.is_fifo():  # there may be one pipe for both
        return 0
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])
    finally:
        os.close(descriptor)


def _sleeps(relay: int) -> bool:
    states = [task.joinpath("stat").read_text().rpartition(")")[2].split()[0] for task in _tasks(relay)]
    return set(states) == {"S"}


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _name(pid: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
