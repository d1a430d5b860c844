"""Turning a start into a daemon: two forks, a session of its own, and a pipe that tells how the start went.

The only fork outside the forkserver. The daemon's side never returns into the command line that started it.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from supervisor.errors import PreforkdError

_READ_BYTES = 64 * 1024


class Startup(msgspec.Struct, frozen=True):
    """How a start went: ready, or the reason why not and the exit code that goes with it."""

    ready: bool
    pid: int
    reason: str = ""
    status: int = 0


Announce = Callable[[Startup], None]


def start_daemon(serve: Callable[[Announce], int], target: int, output: Path, timeout_s: float) -> Startup | None:
    """Run `serve(announce)` in a daemon and give back its first announcement; None after `timeout_s` seconds without.

    `target`: an open descriptor, which this closes: what the daemon writes to stdout and stderr goes there; `output`:
    what that is, for people.
    """
    reader, writer = os.pipe()
    intermediate = os.fork()
    if intermediate == 0:
        os.close(reader)
        _leave_session(target)
        _serve(serve, writer)
    os.close(target)
    os.close(writer)
    with suppress(ChildProcessError):  # the caller ignores SIGCHLD: the kernel has reaped it
        os.waitpid(intermediate, 0)
    try:
        return _first_announcement(reader, output, timeout_s)
    finally:
        os.close(reader)


def _leave_session(output: int) -> None:
    """Become a process that no terminal, no session and no parent of the start has a hold on."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)  # the leader of the new session; without it we can never get a terminal again
    os.chdir("/")
    os.umask(0o027)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, standard)


def _serve(serve: Callable[[Announce], int], writer: int) -> None:
    """Run the daemon to its end and leave with its status, whatever happens."""
    status = 1

    def announce(startup: Startup) -> None:
        with suppress(BrokenPipeError):  # the starting command waits no longer
            os.write(writer, msgspec.json.encode(startup))
        os.close(writer)

    try:
        status = serve(announce)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _first_announcement(reader: int, output: Path, timeout_s: float) -> Startup | None:
    if not select.select([reader], [], [], timeout_s)[0]:
        return None
    data = b""
    while more := os.read(reader, _READ_BYTES):
        data += more
    if not data:
        raise PreforkdError(f"the daemon ended before it was ready, without a reason; {output} may have more")
    return msgspec.json.decode(data, type=Startup)
