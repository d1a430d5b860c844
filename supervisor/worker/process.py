"""A worker's life from the fork to its exit status: settles in, waits for a slot, takes it, runs the loop, leaves.

Runs in a freshly forked process and never returns into the forkserver's frames: every way out is os._exit. Until it has
a slot it is a standby, for hours perhaps: what needs no slot is done by then, and no user code has run. On a clean
leave, and when a handler calls sys.exit, exit callbacks run that were registered in this worker (an `init` that closes
its database connections); those of the import belong to the forkserver, and with them the temporary files and the like
that all workers share, so they are dropped right after the fork.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import random
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn, Protocol

import msgspec

from supervisor import api, descent, logs, memory, posix
from supervisor.clock import monotonic_s
from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError, PreforkdError
from supervisor.link.frames import StartForkserver
from supervisor.quantities import show_bytes
from supervisor.reactor import HasFileno
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import EXIT_STATUS, LeavingReason
from supervisor.stacks import stack_of
from supervisor.worker.handlers import Handler, call, run_handler
from supervisor.worker.limits import Alarm, LimitPolicy
from supervisor.worker.loop import Limits, Place, Worker
from supervisor.worker.recycling import Recycling
from supervisor.worker.requests import Requests
from supervisor.worker.returned import undone_work
from supervisor.worker.runners import Runner, runner

_log = logging.getLogger("preforkd.worker")

_dice = random.SystemRandom().random  # whatever an init does to `random`, workers must not leave together

_BELL = struct.Struct("<II")
_OOM_MORE, _OOM_MOST, _OOM_BYTES = 500, 1000, 16
_EXIT_CALLBACKS_S = 5.0
_ROOMY = 0.9  # recycling blurs its limit by a tenth


class Cradle(Protocol):
    """The forkserver's side of our birth. Both words can be said once, and raise OSError when nobody listens."""

    @property
    def is_needed(self) -> bool:
        """Whether the order is there already."""

    def await_order(self, wake: HasFileno) -> tuple[int, int] | None:
        """Wait for slot and generation; None when nobody needs us, or when `wake` is readable."""

    def settled(self) -> None:
        """Say that the slot is ours and names us: from here on we live without our parent."""

    def refused(self, reason: str) -> None:
        """Say why there is no slot for us."""

    def await_adoption(self) -> None:
        """Wait until the master is our parent, or is gone."""


@dataclass(frozen=True)
class Calling:
    """What every worker of a forkserver is for: its pool, and the functions to call."""

    start: StartForkserver
    run: Handler
    init: Callable[[], object] | None


@dataclass(frozen=True)
class Post:
    """A calling and an incarnation: what this worker is for."""

    calling: Calling
    slot: int
    generation: int

    @property
    def start(self) -> StartForkserver:
        """What the master told the forkserver."""
        return self.calling.start

    @property
    def pool(self) -> PoolConfig:
        """The pool's configuration."""
        return self.start.pool

    @property
    def name(self) -> str:
        """How this worker is called everywhere: `worker email/0`."""
        return f"worker {self.pool.name}/{self.slot}"


def run_worker(calling: Calling, bell: int, cradle: Cradle) -> NoReturn:
    """Be a standby, and then a worker until the end. `bell`: where readiness is told."""
    status, name = os.EX_SOFTWARE, f"standby {calling.start.pool.name}"
    try:
        requests = _settle_in(calling.start, name)
        if not cradle.is_needed:
            _rehearse(calling, requests)
        # fail-point: worker.standing-by: it could take any slot, and has none
        order = None if requests.stop else cradle.await_order(requests)
        if order is None:
            os._exit(os.EX_OK)
        # fail-point: worker.assigned: it knows its slot, and has not taken it
        post = Post(calling, *order)
        name = post.name
        slot = _take_slot(post, cradle)
        status = _Life(post, slot, requests, bell, _open_stacks(post)).live(cradle)
        _run_exit_callbacks(status)
    except BaseException as error:  # noqa: BLE001  (nothing may reach the forkserver's frames)
        _log.error("%s failed", name, exc_info=error)
    finally:
        os._exit(status)


def _settle_in(start: StartForkserver, name: str) -> Requests:
    """All that needs no slot. Raises StateError when the log cannot be opened."""
    atexit._clear()  # CPython's own, as multiprocessing's use of its neighbour below: there is no public way
    os.setpgid(0, 0)
    requests = Requests()
    requests.listen()
    posix.set_title(f"preforkd: {name}")
    logs.rename(start.log, name)
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
        if not slot.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 0):
            return  # the standby of another forkserver, in a reload, is at it
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # a bell that nobody hears; who has rung it closes it
        life = _Life(Post(replace(calling, start=start), 0, 0), slot, requests, null, null)
        undo.enter_context(closing(life.worker(run_handler))).turn()


def _open_stacks(post: Post) -> int:
    path = f"{post.start.pool_dir}/stacks/{post.slot}.txt"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _take_slot(post: Post, cradle: Cradle) -> Slot:
    """Take the slot before anybody may reap us: a child of the master is always named in one."""
    path = f"{post.start.pool_dir}/slots/{post.slot}.slot"
    pid = os.getpid()
    try:
        slot = Slot(path, make=False)  # the master makes them: two files of one name would be two locks for one slot
        if not slot.take(pid, posix.start_ticks(pid) or 0, post.generation):
            cradle.refused(f"{path} is locked by pid {slot.owner()}: its worker is still alive")
            os._exit(os.EX_SOFTWARE)
    except PreforkdError as error:
        cradle.refused(str(error))
        os._exit(os.EX_SOFTWARE)
    descent.mark(post.pool.name, post.generation)
    # fail-point: worker.slot-taken: the slot names us, our parent does not know
    cradle.settled()
    # fail-point: worker.settled: our parent may leave
    return slot


class _Life:
    """Everything after the slot is ours; `live` gives the exit status."""

    def __init__(self, post: Post, slot: Slot, requests: Requests, bell: int, stacks: int) -> None:
        self._post = post
        self._slot = slot
        self._requests = requests
        self._bell = bell
        self._pid = os.getpid()
        self._stacks = stacks

    def live(self, cradle: Cradle) -> int:
        """Boot, serve. User code may end us by SystemExit; nothing else gets past here."""
        try:
            self._take_name()
            if not self._init() or not self._fits():
                return self._leaving(LeavingReason.BOOT_FAILED)
            worker = self.worker(runner(f"{self._post.pool.name}/{self._post.slot}"))
            worker.turn()  # greets the consumer while the intermediate ends
            self._be_adopted(cradle)
            return EXIT_STATUS[worker.run()]
        except BootError as error:
            self._explain(str(error))
            return self._leaving(LeavingReason.BOOT_FAILED)
        except SystemExit as asked:
            return _asked_status(asked)
        except BaseException as error:  # noqa: BLE001  (ours, or a handler's KeyboardInterrupt: the worker failed)
            self._report("the worker failed", error)
            return self._leaving(LeavingReason.FAILED)

    def _leaving(self, reason: LeavingReason) -> int:
        if os.getpid() == self._pid:  # else a handler's fork: the slot is not its own
            self._slot.mark_leaving(reason)
        return EXIT_STATUS[reason]

    # ---- boot -----------------------------------------------------------------------------------------------------

    def _take_name(self) -> None:
        faulthandler.enable(file=self._stacks, all_threads=True)
        faulthandler.register(signal.SIGQUIT, file=self._stacks, all_threads=True, chain=False)
        posix.set_title(f"preforkd: {self._post.name}")
        logs.rename(self._post.start.log, self._post.name)
        api._recorder.call = self._record_group

    def _init(self) -> bool:
        """Run the pool's init hook; whatever it raises, SystemExit included, is a failed boot."""
        if self._post.calling.init is not None and not self._requests.stop:
            try:
                if why := undone_work(self._post.calling.init()):
                    raise BootError(f"init {why}")
            except BootError as error:
                self._explain(str(error))
                return False
            except BaseException as error:  # noqa: BLE001  (user code; nothing it raises may pass as a boot)
                self._report(f"init {self._post.pool.init!r} failed", error)
                return False
        return True

    def _fits(self) -> bool:
        """Whether there is room below the memory limit: else each worker would be replaced after one message."""
        pool = self._post.pool
        limit = pool.max_memory_bytes or pool.kill_memory_bytes
        if not memory.exceeds(os.getpid(), int(limit * _ROOMY)):
            return True
        name = "max_memory" if pool.max_memory_bytes else "kill_memory"
        used = show_bytes(memory.private_bytes(os.getpid()))
        text = (
            f"pools.{pool.name}.{name} = {show_bytes(limit)} leaves no room for messages: the worker has {used} for "
            "itself before its first one; raise it, or load less in `init`"
        )
        self._explain(text)
        return False

    def worker(self, run: Runner) -> Worker:
        """The loop of this worker; `run` calls its handler."""
        # fail-point: worker.booted: the init hook has run, nobody knows that we are here
        post, pool = self._post, self._post.pool
        alarm = Alarm(call.__code__, pool.max_timeout_s, self._time_is_over, self._slot.mark_extended)
        recycling = Recycling(pool, monotonic_s(), partial(memory.exceeds, os.getpid()), _dice)
        return Worker(
            Place(post.slot, post.generation, pool.queue, post.start.link_path),
            self._slot,
            partial(run, post.calling.run),
            Limits(LimitPolicy(pool), alarm, recycling),
            self._requests,
            self._ready,
        )

    def _be_adopted(self, cradle: Cradle) -> None:
        """From here on the master's death reaches us; up to here it was seen by nobody, so nobody may wait before."""
        cradle.await_adoption()
        # fail-point: worker.adopted: the master is our parent, its death would not reach us yet
        if not posix.die_with_parent(signal.SIGTERM, self._post.start.master_pid):
            self._requests.stop = True  # the master is gone already

    def _ready(self) -> None:
        # fail-point: worker.greeted: the consumer can have our hello
        self._slot.mark_ready()
        # fail-point: worker.ready-marked: ready, the bell has not rung
        with suppress(OSError):  # the master is gone; its death is told in another way
            os.write(self._bell, _BELL.pack(self._post.slot, self._post.generation))
        # fail-point: worker.bell-rung: the master is told that we are ready
        os.close(self._bell)

    # ---- while it serves ------------------------------------------------------------------------------------------

    def _time_is_over(self) -> NoReturn:
        """The hard limit, in the signal handler: the run stays marked, the master judges it. No locks, no logs here."""
        faulthandler.dump_traceback(self._stacks, all_threads=True)
        # fail-point: worker.timeout-dumped: the time limit has struck, the slot does not say so
        self._slot.mark_leaving(LeavingReason.TIMEOUT)
        # fail-point: worker.timeout-marked: leaving is marked, the run still open
        os._exit(EXIT_STATUS[LeavingReason.TIMEOUT])

    def _record_group(self, pgid: int) -> None:
        self._slot.record_group(pgid, (posix.start_ticks(pgid) or 0) if pgid else 0)

    def _explain(self, text: str) -> None:
        """Say in one line why we cannot boot: the master takes one line as a sign that a person must edit something."""
        _log.error("%s: %s", self._post.name, text)
        os.write(self._stacks, " ".join(text.split()).encode(errors="replace"))

    def _report(self, what: str, error: BaseException) -> None:
        """Say why we leave, in the log and where the master looks for the stack of the exit record."""
        _log.error("%s: %s", self._post.name, what, exc_info=error)
        os.write(self._stacks, stack_of(error).encode())


def _prefer_for_oom_killer() -> None:
    """Let the kernel pick a worker before the master; raising the figure is always allowed."""
    with suppress(OSError):
        score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            more = min(_OOM_MOST, int(os.read(score, _OOM_BYTES)) + _OOM_MORE)
            os.pwrite(score, b"%d" % more, 0)
        finally:
            os.close(score)


def _reseed() -> None:
    """Workers must not draw the same numbers. Python's own `random` does this by itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _asked_status(asked: SystemExit) -> int:
    """The status that sys.exit(…) asks for, as the interpreter itself reads it."""
    if asked.code is None or isinstance(asked.code, int):
        return (asked.code or 0) & 0xFF
    sys.stderr.write(f"{asked.code}\n")
    return 1


def _run_exit_callbacks(status: int) -> None:
    """The last thing a worker does; a callback that hangs ends with our patience, and the status stays."""
    signal.signal(signal.SIGALRM, lambda signum, frame: os._exit(status))
    signal.setitimer(signal.ITIMER_REAL, _EXIT_CALLBACKS_S)
    if status not in (os.EX_SOFTWARE, os.EX_CONFIG):
        atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
