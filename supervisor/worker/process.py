"""A worker's process from the fork to its exit status: set up, wait for a slot, take it, run the loop, exit.

Runs in a forked process and never returns into the forkserver's frames: every exit is os._exit. Without a slot it is a
standby, perhaps for hours: it is set up, and no user code has run. On a clean exit, and after sys.exit in a handler,
exit callbacks run that were registered in this worker (by an `init` that closes its database connections). Those of the
import belong to the forkserver, like temporary files shared by all workers, so they are dropped after the fork.
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
from os import getpid
from pathlib import Path
from time import sleep
from typing import NoReturn

import msgspec

from supervisor.errors import PreforkdError
from supervisor.link.frames import StartForkserver
from supervisor.logs import structured
from supervisor.logs.prints import prints
from supervisor.scoreboard.slot import Slot
from supervisor.system import descent, posix
from supervisor.system.process_state import blaming
from supervisor.system.stacks import open_stacks, reason_of
from supervisor.worker.life import AssignedSlot, ForkHandshake, Life, WorkerSpec
from supervisor.worker.requests import Requests

__all__ = ["WorkerSpec", "run_worker"]

_log = logging.getLogger("preforkd.worker")

_OOM_MORE, _OOM_MOST = 500, 1000
_EXIT_CALLBACKS_S = 3.0  # less than the master's grace for a leaving worker


def run_worker(spec: WorkerSpec, notification: int, handshake: ForkHandshake) -> NoReturn:
    """Run as a standby, and then as a worker. `notification`: the descriptor of the readiness pipe."""
    status, name, has_slot = os.EX_SOFTWARE, f"standby {spec.start.pool.name}", False
    try:
        requests = _settle_in(spec.start, name)
        if not handshake.is_needed:
            _rehearse(spec, requests)
        # fail-point: worker.standing-by: it could take any slot, and has none
        order = None if requests.stop else handshake.await_order(requests)
        if order is None:
            leave(os.EX_OK)
        # fail-point: worker.assigned: it knows its slot, and has not taken it
        assigned = AssignedSlot(spec, *order)
        name = assigned.name
        slot = _take_slot(assigned, handshake)
        has_slot = True
        stacks = open_stacks(spec.start.pool_dir, str(assigned.slot))
        status = Life(assigned, slot, requests, notification, stacks).live(handshake)
        _run_exit_callbacks(status)
    except BaseException as error:  # noqa: BLE001  (no exception may reach the forkserver's frames)
        reason = blaming(reason_of(error), spec.put_back())
        if not has_slot:
            with suppress(OSError):
                handshake.refused(f"the worker failed before it had its slot: {reason}")
        _log.error("%s failed: %s", name, reason, exc_info=error)
    finally:
        leave(status)


def _settle_in(start: StartForkserver, name: str) -> Requests:
    """Set up all that needs no slot. Raises StateError if the log cannot be opened."""
    atexit._clear()  # private in CPython, as is _run_exitfuncs, which multiprocessing uses: there is no public function
    os.setpgid(0, 0)
    requests = Requests()
    requests.listen()
    posix.set_title(f"preforkd: {name}")
    structured.rename(start.log, name)
    _prefer_for_oom_killer()
    _reseed()
    return requests


def _rehearse(spec: WorkerSpec, requests: Requests) -> None:
    """Boot once on a slot and a link of no worker, while the standby has time for it.

    After a fork the first touch of each page costs a fault: some hundred up to the first Hello, which would all come
    between a worker's death and its replacement. No user code runs, and all descriptors are closed again. A standby
    that cannot rehearse becomes a worker all the same, only later.
    """
    with suppress(PreforkdError, OSError), ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")  # an abstract address of the kernel's choice (unix(7), autobind)
        listener.listen()
        start = msgspec.structs.replace(spec.start, link_path=os.fsdecode(listener.getsockname()))
        slot = opened.enter_context(closing(Slot(Path(start.pool_dir) / "rehearsal.slot")))
        if not slot.take(getpid(), posix.start_ticks(getpid()) or 0, 0):
            return  # the standby of another forkserver has it, during a reload
        notification = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # closed with the readiness
        stacks = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        opened.callback(os.close, stacks)
        Life(AssignedSlot(replace(spec, start=start), 0, 0), slot, requests, notification, stacks).rehearse()


def _take_slot(assigned: AssignedSlot, handshake: ForkHandshake) -> Slot:
    """Take the slot before the master is the parent: a worker that is its child is always named in a slot."""
    path = Path(assigned.start.pool_dir) / "slots" / f"{assigned.slot}.slot"
    pid = getpid()
    try:
        slot = Slot(path, make=False)  # only the master makes slot files
        if not slot.take(pid, posix.start_ticks(pid) or 0, assigned.generation):
            handshake.refused(f"{path} is locked by pid {slot.owner()}: its worker is still alive")
            leave(os.EX_SOFTWARE)
    except (PreforkdError, OSError) as error:
        handshake.refused(str(error))
        leave(os.EX_SOFTWARE)
    descent.mark(assigned.pool.name, assigned.generation)
    # fail-point: worker.slot-taken: the slot names this process, its parent is not told
    handshake.settled()
    # fail-point: worker.settled: the parent may exit
    return slot


def _prefer_for_oom_killer() -> None:
    """Raise oom_score_adj (proc(5)), so that the kernel kills a worker before the master."""
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        score.write_bytes(b"%d" % min(_OOM_MOST, int(score.read_bytes()) + _OOM_MORE))  # as text it costs codecs


def _reseed() -> None:
    """Seed numpy, so that workers draw different numbers. Python's own `random` does so after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _leave_later(status: int) -> None:
    sleep(_EXIT_CALLBACKS_S)
    leave(status)


def _run_exit_callbacks(status: int) -> None:
    """Run exit callbacks, within a time limit that keeps the exit status.

    A thread ends the process, not a signal: a callback may use timers and signals itself, or wait in C code that no
    signal handler interrupts.
    """
    with suppress(RuntimeError):  # no more threads: a callback that hangs ends by the master's SIGKILL
        start_new_thread(_leave_later, (status,))
    if status not in (os.EX_SOFTWARE, os.EX_CONFIG):
        atexit._run_exitfuncs()
    flush_logs()
    prints.end_run(leaving=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # user code has closed or replaced it
            stream.flush()
