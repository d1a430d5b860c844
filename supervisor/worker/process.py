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
import socket
import sys
from _thread import start_new_thread
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from logging import shutdown as flush_logs
from os import _exit as leave  # bound before user code can replace it: a worker must never return from here
from os import getpid, read
from time import sleep
from typing import NoReturn

import msgspec

from supervisor.errors import PreforkdError
from supervisor.link.frames import StartForkserver
from supervisor.logs import structured
from supervisor.scoreboard.slot import Slot
from supervisor.system import descent, posix
from supervisor.system.replacements import blaming
from supervisor.system.stacks import reason_of
from supervisor.worker.handlers import run_handler
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
        if not handshake.is_needed:
            _rehearse(calling, requests)
        # fail-point: worker.standing-by: it could take any slot, and has none
        order = None if requests.stop else handshake.await_order(requests)
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


def _rehearse(calling: Calling, requests: Requests) -> None:
    """Walk the way up to the greeting once, on a slot and a link that are nobody's, while there is time for it.

    After a fork the first touch of each page costs a fault, several hundred on this way, and they would stand between a
    death and the next worker. Nothing of it may stay, no user code may run, not even an SDK be asked for before `init`;
    and where it fails a worker is born as well, only later.
    """
    with suppress(PreforkdError, OSError), ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")  # a name of the kernel's choice, in no directory
        listener.listen()
        start = msgspec.structs.replace(calling.start, link_path=os.fsdecode(listener.getsockname()))
        slot = undo.enter_context(closing(Slot(f"{start.pool_dir}/rehearsal.slot")))
        if not slot.take(getpid(), posix.start_ticks(getpid()) or 0, 0):
            return  # the standby of another forkserver, in a reload, is at it
        notification = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # nobody hears it; who has rung it closes it
        stacks = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        undo.callback(os.close, stacks)
        life = Life(Post(replace(calling, start=start), 0, 0), slot, requests, notification, stacks)
        upkeep = undo.enter_context(closing(life.upkeep()))
        undo.enter_context(closing(life.worker(run_handler, upkeep))).turn()


def _open_stacks(post: Post) -> int:
    path = f"{post.start.pool_dir}/stacks/{post.slot}.txt"
    stacks = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, _STACKS_MODE)
    with suppress(OSError):  # another user's, from before; it could be opened all the same
        os.fchmod(stacks, _STACKS_MODE)  # whatever the import has set the mask of file modes to: the master reads it
    return posix.move_up(stacks)


def _take_slot(post: Post, handshake: ForkHandshake) -> Slot:
    """Take the slot before anybody may reap us: a child of the master is always named in one."""
    path = f"{post.start.pool_dir}/slots/{post.slot}.slot"
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
