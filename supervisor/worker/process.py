"""A worker's life from the fork to its exit status: settles in, waits for a slot, takes it, runs the loop, leaves.

Runs in a freshly forked process and never returns into the forkserver's frames: every way out is os._exit. Until it has
a slot it is a standby, for hours perhaps: what needs no slot is done by then, and no user code has run. On a clean
leave, and when a handler calls sys.exit, exit callbacks run that were registered in this worker (an `init` that closes
its database connections); those of the import belong to the forkserver, and with them the temporary files and the like
that all workers share, so they are dropped right after the fork.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from _thread import start_new_thread
from contextlib import suppress
from logging import shutdown as flush_logs
from os import _exit as leave  # bound before user code can replace it: a worker must never return from here
from os import getpid, read
from pathlib import Path
from time import sleep
from typing import NoReturn

from supervisor.errors import PreforkdError
from supervisor.link.frames import StartForkserver
from supervisor.logs import structured
from supervisor.scoreboard.slot import Slot
from supervisor.system import descent, posix
from supervisor.system.replacements import blaming
from supervisor.system.stacks import reason_of
from supervisor.worker.life import Calling, ForkHandshake, Life, Post
from supervisor.worker.requests import Requests

__all__ = ["Calling", "run_worker"]

_log = logging.getLogger("preforkd.worker")

_OOM_MORE, _OOM_MOST, _OOM_BYTES = 500, 1000, 16
_EXIT_CALLBACKS_S = 3.0  # less than the master waits for a worker that leaves: the status stays
_STACKS_MODE = 0o640


def run_worker(calling: Calling, notification: int, handshake: ForkHandshake) -> NoReturn:
    """Be a standby, and then a worker until the end. `notification`: where readiness is told."""
    status, name, has_slot = os.EX_SOFTWARE, f"standby {calling.start.pool.name}", False
    try:
        requests = _settle_in(calling.start, name)
        # fail-point: worker.standing-by: it could take any slot, and has none
        order = handshake.await_order(requests)
        if order is None:
            leave(os.EX_OK)
        # fail-point: worker.assigned: it knows its slot, and has not taken it
        post = Post(calling, *order)
        name = post.name
        slot = _take_slot(post, handshake)
        has_slot = True
        status = Life(post, slot, requests, notification, _open_stacks(post)).live(handshake)
        _run_exit_callbacks(status)
    except BaseException as error:  # noqa: BLE001  (nothing may reach the forkserver's frames)
        reason = blaming(reason_of(error), calling.put_back())
        if not has_slot:
            with suppress(OSError):
                handshake.refused(f"the worker failed before it had its slot: {reason}")
        _log.error("%s failed: %s", name, reason, exc_info=error)
    finally:
        leave(status)


def _settle_in(start: StartForkserver, name: str) -> Requests:
    """All that needs no slot. Raises StateError when the log cannot be opened."""
    atexit._clear()  # CPython's own, as multiprocessing's use of its neighbour below: there is no public way
    os.setpgid(0, 0)
    requests = Requests()
    requests.listen()
    posix.set_title(f"preforkd: {name}")
    structured.rename(start.log, name)
    _prefer_for_oom_killer()
    _reseed()
    return requests


def _open_stacks(post: Post) -> int:
    path = Path(post.start.pool_dir) / "stacks" / f"{post.slot}.txt"
    stacks = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, _STACKS_MODE)
    with suppress(OSError):  # another user's, from before; it could be opened all the same
        os.fchmod(stacks, _STACKS_MODE)  # whatever the import has set the mask of file modes to: the master reads it
    return posix.move_up(stacks)


def _take_slot(post: Post, handshake: ForkHandshake) -> Slot:
    """Take the slot before anybody may reap us: a child of the master is always named in one."""
    path = Path(post.start.pool_dir) / "slots" / f"{post.slot}.slot"
    pid = getpid()
    try:
        slot = Slot(path, make=False)  # the master makes them: two files of one name would be two locks for one slot
        if not slot.take(pid, posix.start_ticks(pid) or 0, post.generation):
            handshake.refused(f"{path} is locked by pid {slot.owner()}: its worker is still alive")
            leave(os.EX_SOFTWARE)
    except (PreforkdError, OSError) as error:
        handshake.refused(str(error))
        leave(os.EX_SOFTWARE)
    descent.mark(post.pool.name, post.generation)
    # fail-point: worker.slot-taken: the slot names us, our parent does not know
    handshake.settled()
    # fail-point: worker.settled: our parent may leave
    return slot


def _prefer_for_oom_killer() -> None:
    """Let the kernel pick a worker before the master; raising the figure is always allowed."""
    with suppress(OSError):
        score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            more = min(_OOM_MOST, int(read(score, _OOM_BYTES)) + _OOM_MORE)
            os.pwrite(score, b"%d" % more, 0)
        finally:
            os.close(score)


def _reseed() -> None:
    """Workers must not draw the same numbers. Python's own `random` does this by itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _leave_later(status: int) -> None:
    sleep(_EXIT_CALLBACKS_S)
    leave(status)


def _run_exit_callbacks(status: int) -> None:
    """The last thing a worker does; a callback that hangs is not waited for, and the status stays.

    A thread ends the process, not a signal: a callback may use timers and signals itself, or wait in C code that no
    signal handler interrupts.
    """
    with suppress(RuntimeError):  # no more threads: then a callback that hangs waits for the master's SIGKILL
        start_new_thread(_leave_later, (status,))
    if status not in (os.EX_SOFTWARE, os.EX_CONFIG):
        atexit._run_exitfuncs()
    flush_logs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # user code has closed it, or put something else there
            stream.flush()
