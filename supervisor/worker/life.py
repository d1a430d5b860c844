"""A worker from the time it has its slot: takes its name, runs `init`, serves, and reports its end.

Runs in workers. An exception of user code that reaches this file, from `init` or a handler, becomes an exit status, and
its stack is written to the file that the master reads.
"""

from __future__ import annotations

import faulthandler
import logging
import random
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from inspect import isclass
from os import _exit as leave  # bound before user code can replace it
from os import close, getpid, write
from sys import getprofile, getrecursionlimit, gettrace, setprofile, setrecursionlimit, settrace
from types import TracebackType
from typing import NoReturn, Protocol

from supervisor import api
from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError
from supervisor.link.frames import StartForkserver
from supervisor.logs import structured
from supervisor.logs.events import Event
from supervisor.logs.run_fields import run_fields
from supervisor.logs.structured import log
from supervisor.middleware_methods import fault_of
from supervisor.quantities import show_bytes
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import EXIT_STATUS, Intent, LeavingReason
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.kill_timer import KillTimer
from supervisor.system.process_state import blaming
from supervisor.system.reactor import HasFileno
from supervisor.system.stacks import dump_on_faults, reason_of, sendable, stack_of, text_of
from supervisor.worker.handler_call import Ending, Handler, call, handlers_frame, run_handler, runner, undone_work
from supervisor.worker.limits import Alarm, KernelEnd, LimitPolicy, Recycling, keeps_soft_limit_out
from supervisor.worker.loop import Limits, Worker, WorkerAddress
from supervisor.worker.middleware import Chain, EventLoop, Stage
from supervisor.worker.requests import Requests
from supervisor.worker.upkeep import Upkeep

_log = logging.getLogger("preforkd.worker")

_dice = random.SystemRandom().random  # `init` may seed `random`, and workers must not exit together

_READINESS = struct.Struct("<II")
_ROOMY = 0.9  # recycling blurs its limit by a tenth


def _exceeds_memory(limit_bytes: int) -> bool:
    """Whether this process has more private memory than `limit_bytes` (0: no limit).

    psutil is loaded once the resident size is above the limit: other workers have no page of it. Its own 3 MiB count.
    """
    return 0 < limit_bytes < posix.usage(getpid()).rss_bytes and _private_bytes() > limit_bytes


def _private_bytes() -> int:
    """The private memory of this process; 0 if it is not known."""
    with suppress(ImportError, OSError):  # user code has left no free descriptor
        from supervisor.system.processes import private_bytes

        return private_bytes(getpid())
    return 0


class ForkHandshake(Protocol):
    """Handshake with the forkserver. Each message can be sent once; raises OSError if the peer is gone."""

    @property
    def is_needed(self) -> bool:
        """Whether the order is there already."""

    def await_order(self, wake: HasFileno) -> tuple[int, int] | None:
        """Wait for slot and generation; None if no worker is wanted, or `wake` is readable."""

    def settled(self) -> None:
        """Report that the slot is taken and names this process: it then outlives its parent."""

    def refused(self, reason: str) -> None:
        """Report why the slot could not be taken."""

    def await_adoption(self) -> None:
        """Wait until the master is the parent of this process, or is gone."""


@dataclass(frozen=True)
class WorkerSpec:
    """The specification of all workers of a forkserver: its pool, and the functions to call."""

    start: StartForkserver
    run: Handler
    init: Callable[[], object] | None
    put_back: Callable[[], list[str]] = list
    """Restores names that user code has replaced, before a failure of preforkd is reported; returns them."""
    middleware: Sequence[tuple[str, Callable[[], object]]] = ()
    """Each with its name, and the class or function that makes it."""


@dataclass(frozen=True)
class AssignedSlot:
    """The slot and generation that a worker serves, with its spec."""

    spec: WorkerSpec
    slot: int
    generation: int

    @property
    def start(self) -> StartForkserver:
        """The first frame of the master to the forkserver."""
        return self.spec.start

    @property
    def pool(self) -> PoolConfig:
        """The pool's configuration."""
        return self.start.pool

    @property
    def name(self) -> str:
        """The name of this worker in logs and titles: `worker email/0`."""
        return f"worker {self.pool.name}/{self.slot}"


class Life:
    """A worker that has its slot. `notification`: the readiness pipe; `stacks`: the file for stacks (descriptors)."""

    def __init__(self, assigned: AssignedSlot, slot: Slot, requests: Requests, notification: int, stacks: int) -> None:
        self._assigned = assigned
        self._slot = slot
        self._requests = requests
        self._notification = notification
        self._pid = getpid()
        self._stacks = stacks
        self._kill_timer = KillTimer()
        self._adopted = False

    def rehearse(self) -> None:
        """Do what `live` does up to the first Hello, without user code. Raises OSError and PreforkdError."""
        handle = partial(run_handler, self._assigned.spec.run)
        with closing(self._upkeep()) as upkeep, closing(self._worker(upkeep, handle)) as worker:
            worker.turn()

    def live(self, handshake: ForkHandshake) -> int:
        """Boot and serve; returns the exit status. No exception leaves this method."""
        try:
            self._take_name()
            upkeep = self._upkeep()
            handler = self._handler() if self._init() else None
            if handler is None:
                return self._leaving(LeavingReason.BOOT_FAILED)
            self._adopt_state(upkeep)
            self._tell_soft_limit()
            self._open_kill_timer()
            self._require_memory()
            run = runner(self._assigned.name.removeprefix("worker "))
            worker = self._worker(upkeep, partial(run, handler))
            worker.turn()  # sends Hello to the consumer while the intermediate process ends
            self._be_adopted(handshake)
            return EXIT_STATUS[worker.run()]
        except SystemExit as asked:
            return self._exit_asked(asked)
        except BootError as error:
            self._explain(str(error))
            return self._leaving(LeavingReason.BOOT_FAILED)
        except KeyboardInterrupt as interrupt:
            self._report("the handler raised KeyboardInterrupt", interrupt, handlers_frame(interrupt))
            return self._leaving(LeavingReason.FAILED)
        except BaseException as error:  # noqa: BLE001  (no exception may leave this method)
            self._report("the worker failed", error, replaced=self._assigned.spec.put_back())
            return self._leaving(LeavingReason.FAILED if self._adopted else LeavingReason.BOOT_FAILED)

    def _exit_asked(self, asked: SystemExit) -> int:
        """The status for sys.exit(…), by the interpreter's own rules; the place of the call is reported."""
        if getpid() == self._pid:  # else a handler's fork
            self._report(f"the handler called exit({_code_of(asked)})", asked, handlers_frame(asked))
        if asked.code is None or isinstance(asked.code, int):
            return (asked.code or 0) & 0xFF
        with suppress(AttributeError, OSError, ValueError):  # user code has closed or replaced it
            sys.stderr.write(f"{text_of(asked)}\n")
        return 1

    def _leaving(self, reason: LeavingReason) -> int:
        if getpid() == self._pid:  # else a handler's fork: the slot is not its own
            self._slot.mark_leaving(reason)
        return EXIT_STATUS[reason]

    # ---- boot -----------------------------------------------------------------------------------------------------

    def _take_name(self) -> None:
        dump_on_faults(self._stacks)
        posix.set_title(f"preforkd: {self._assigned.name}")
        structured.rename(self._assigned.start.log, self._assigned.name)
        run_fields.of_process(self._assigned.pool.name, self._assigned.slot)
        api._recorder.call = self._record_group

    def _init(self) -> bool:
        """Run the pool's init hook; False if it failed: any exception is a failed boot. Raises BootError."""
        if self._assigned.spec.init is not None and not self._requests.stop:
            try:
                if why := undone_work(_called(self._assigned.spec.init)):
                    raise BootError(f"init {why}")
            except BootError:
                raise
            except BaseException as error:  # noqa: BLE001  (user code; nothing it raises may pass as a boot)
                self._report_boot(f"init {self._assigned.pool.init!r} failed", error)
                return False
        return True

    def _handler(self) -> Handler | None:
        """The handler with the pool's middleware around it; None if one cannot be made. Raises BootError."""
        spec, loop = self._assigned.spec, EventLoop()
        stages: list[Stage] = []
        for name, make in spec.middleware:
            try:
                made = _called(make)
                fault = (
                    "is a function that returns a class: let it return an object" if isclass(made) else fault_of(made)
                )
            except BaseException as error:  # noqa: BLE001  (as above)
                self._report_boot(f"middleware {name}: it cannot be made", error, f"middleware {name}: ")
                return None
            if fault:
                raise BootError(f"middleware {name} {fault}")
            stages.append(Stage(name, made, loop))
        return Chain(spec.run, stages) if stages else spec.run

    def _report_boot(self, what: str, error: BaseException, place: str = "") -> None:
        frame = handlers_frame(error)
        replaced = () if frame else self._assigned.spec.put_back()  # preforkd's own code failed after it
        self._report(what, error, frame, replaced, place)

    def _adopt_state(self, upkeep: Upkeep) -> None:
        if changed := upkeep.adopt():
            raise BootError(f"init has changed {', '.join(changed)}; do that in a program of its own")

    def _require_memory(self) -> None:
        """Raise BootError unless memory is well below the limit: each worker would be replaced after one message."""
        pool = self._assigned.pool
        limit = pool.max_memory_bytes or pool.kill_memory_bytes
        if not _exceeds_memory(int(limit * _ROOMY)):
            return
        name = "max_memory" if pool.max_memory_bytes else "kill_memory"
        used = show_bytes(_private_bytes())
        raise BootError(
            f"pools.{pool.name}.{name} = {show_bytes(limit)} leaves no room for messages: the worker needs {used} for "
            "itself before its first one; raise it, or load less in `init`"
        )

    def _tell_soft_limit(self) -> None:
        library = keeps_soft_limit_out() if self._assigned.pool.soft_timeout_s else ""
        if library:
            text = "%s: user code has loaded %s: soft_timeout does not work while a handler waits in it, `timeout` does"
            _log.warning(text, self._assigned.name, library)

    def _open_kill_timer(self) -> None:
        """Without the timer a worker works, too; only a stopped one then needs its master to end."""
        try:
            self._kill_timer.open()
        except OSError as error:
            text = "%s: the kernel cannot hold the end of runs, the master alone does: %s"
            _log.warning(text, self._assigned.name, error)

    def _upkeep(self) -> Upkeep:
        """The upkeep of this process; made before user code runs in it."""
        own = {
            "the lock of its slot": self._slot.descriptor,
            "its wake-up pipe": self._requests.fileno(),
            "the file for its stacks": self._stacks,
        }
        restorers = (partial(dump_on_faults, self._stacks), self._requests.take_back, self._hear_master)
        return Upkeep(self._assigned.start.log.level, own, restorers, self._spoilt)

    def _worker(self, upkeep: Upkeep, handle: Callable[[api.Message], Ending]) -> Worker:
        # fail-point: worker.booted: the init hook has run, no process is told
        assigned, pool = self._assigned, self._assigned.pool
        end = KernelEnd(pool.kernel_grace_s, self._kill_timer, self._slot.mark_end)
        alarm = Alarm(call.__code__, pool.max_timeout_s, self._time_is_over, self._slot.mark_extended, end)
        recycling = Recycling(pool, monotonic_s(), _exceeds_memory, _dice)
        return Worker(
            WorkerAddress(assigned.slot, assigned.generation, pool.queue, assigned.start.link_path),
            self._slot,
            handle,
            Limits(LimitPolicy(pool), alarm, recycling, upkeep),
            self._requests,
            self._ready,
        )

    def _be_adopted(self, handshake: ForkHandshake) -> None:
        """Request a signal for the master's death. Before this a death goes unnoticed, so no code may wait before."""
        handshake.await_adoption()
        # fail-point: worker.adopted: the master is the parent, its death would not be noticed yet
        self._adopted = True
        self._hear_master()

    def _ready(self) -> None:
        # fail-point: worker.greeted: the consumer can have the Hello
        self._slot.mark_ready()
        # fail-point: worker.ready-marked: ready, the master is not told
        with suppress(OSError):  # the master is gone, which a signal reports
            write(self._notification, _READINESS.pack(self._assigned.slot, self._assigned.generation))
        # fail-point: worker.readiness-told: the master is told of the readiness
        close(self._notification)

    # ---- between runs of user code --------------------------------------------------------------------------------

    def _hear_master(self) -> None:
        """Stop if the master wants it, or is gone: a handler may have caught the SIGTERM."""
        if not self._adopted:
            return
        alone = not posix.die_with_parent(signal.SIGTERM, self._assigned.start.master_pid)
        if alone or self._slot.intent(self._assigned.generation) in (Intent.STOP, Intent.STOP_KILL):
            self._requests.stop = True

    def _spoilt(self, what: str) -> None:
        log(
            Event.WORKER_SPOILED,
            f"{self._assigned.name}: user code has changed {what} for good; this worker is replaced. Change such "
            "things in a program of its own, or in `init`",
            level=logging.ERROR,
            pool=self._assigned.pool.name,
            slot=self._assigned.slot,
            generation=self._assigned.generation,
            changed=what,
        )

    # ---- while it serves ------------------------------------------------------------------------------------------

    def _time_is_over(self) -> NoReturn:
        """The hard limit, in the signal handler: the run stays marked, the master judges it. No locks, no logs."""
        output = api._recorder.output
        if output is not None:
            with suppress(BaseException):  # user code
                write(self._stacks, sendable(output()).encode() + b"\n\n")
        faulthandler.dump_traceback(self._stacks, all_threads=True)
        # fail-point: worker.timeout-dumped: the time limit is reached, the slot does not say so
        self._slot.mark_leaving(LeavingReason.TIMEOUT)
        # fail-point: worker.timeout-marked: leaving is marked, the run still open
        leave(EXIT_STATUS[LeavingReason.TIMEOUT])

    def _record_group(self, pgid: int) -> None:
        self._slot.record_group(pgid, (posix.start_ticks(pgid) or 0) if pgid else 0)

    def _explain(self, text: str) -> None:
        """Report a failed boot in one line: for the master, one line means that an operator must change a setting."""
        with suppress(OSError):  # user code has closed it
            write(self._stacks, " ".join(text.split()).encode(errors="replace"))
        with suppress(Exception):  # user code has broken the log: the exit record has the text
            _log.error("%s: %s", self._assigned.name, text)

    def _report(
        self,
        what: str,
        error: BaseException,
        since: TracebackType | None = None,
        replaced: Sequence[str] = (),
        place: str = "",
    ) -> None:
        """Report why this worker exits, in the log and in the file that the master reads for the exit record.

        `since`: the first frame of user code. `replaced`: names for `blaming`. `place`: begins the reason.
        """
        stack, reason = stack_of(error, since), place + blaming(reason_of(error).partition("\n")[0], replaced)
        told = {"stack": stack}
        if stack.rstrip().rpartition("\n")[2] != reason:  # a text of several lines; a SyntaxError's place
            stack = f"{stack}{reason}\n"
        with suppress(OSError):  # user code has closed it
            write(self._stacks, stack.encode())
        with suppress(Exception):  # as above
            _log.error("%s: %s", self._assigned.name, what, extra=told)


def _called(made: Callable[[], object]) -> object:
    """Call it, and restore a lowered recursion limit; after an exception also trace and profile functions."""
    traced, profiled, depth = gettrace(), getprofile(), getrecursionlimit()
    try:
        return made()
    except BaseException:
        settrace(traced)
        setprofile(profiled)
        raise
    finally:
        if getrecursionlimit() < depth:
            setrecursionlimit(depth)


def _code_of(asked: SystemExit) -> str:
    return str(asked.code) if isinstance(asked.code, int) else repr(text_of(asked)) if asked.code is not None else ""
