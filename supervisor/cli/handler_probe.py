"""Does a pool's handler import, and can a worker boot? Asked of a real forkserver and worker, so that `check` and the
daemon cannot disagree.

Both run below this process, with a throw-away folder, as they do below the master: the worker is forked, takes its
slot, runs `init`, and is ready. It gets no message. It is then asked to leave, so that its exit callbacks run. What the
import or `init` has started is killed. No user code runs in the command line's own process.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from supervisor.config.schema import Config, LogConfig, PoolConfig
from supervisor.errors import BootError, StateError
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import VERSION, BootFailed, Fork, Forked, ForkFailed, ForkReport, Imported, StartForkserver
from supervisor.master.pool.children import Kind
from supervisor.master.pool.spawn import spawn
from supervisor.quantities import show_seconds
from supervisor.scoreboard.slot import Slot
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.scratch import scratch_folder
from supervisor.system.stacks import STACK_BYTES, users_frames

TIMEOUT_S = 60.0
_SLOT, _GENERATION = 0, 1
_LINK = "link.sock"
_LEAVES_WITHIN_S = 2.0
_EXIT_CALLBACKS_S = 5.0  # longer than a worker gives them
_DUMP_S = 1.0
_SILENT = "critical"  # what goes wrong is a finding, and not in the log, too


class ImportFailed(BootError):
    """The handler cannot be put to work; `stack` is where in the user's code, "" where that says nothing."""

    def __init__(self, reason: str, stack: str = "") -> None:
        super().__init__(reason)
        self.stack = stack


class WorkerFailed(ImportFailed):
    """A worker cannot boot, by its `init` or its limits. An exception of `init` may heal by itself (status 1)."""

    def __init__(self, pool: PoolConfig, reason: str, stack: str = "") -> None:
        key, value = ("init", pool.init) if pool.init else ("handler", pool.handler)
        if pool.middleware and ": middleware " in reason:
            key, value = "middleware", ", ".join(pool.middleware)
        self.key = f"pools.{pool.name}.{key}"
        super().__init__(f"{self.key} = {value!r}: {reason}", stack)
        if "\n" in stack.strip():
            self.exit_code = 1


class Probed(NamedTuple):
    """How long the import took, and a worker from its fork until it was ready, in seconds."""

    import_s: float
    boot_s: float


def probe_handler(
    pool: PoolConfig, timeout_s: float = TIMEOUT_S, places: Collection[Path] = (), config: Config | None = None
) -> Probed:
    """Import a pool's handler in a forkserver of its own, and boot a worker.

    `places`: where its throw-away folder is made if there is no other place. `config`: its variables are there for the
    import, its secrets are not, as in the daemon. Raises ImportFailed (WorkerFailed after the import), or StateError
    where no process can be started or no folder be made.
    """
    with ExitStack() as stack:
        folder = scratch_folder("preforkd-check-", "the test of the handler", places, _LINK)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        readiness = os.pipe()
        for descriptor in readiness:
            stack.callback(os.close, descriptor)
        link = folder / _LINK
        stack.enter_context(_listening(link))
        stack.enter_context(_adopting())
        log = LogConfig(level=_SILENT, format="console")
        start = StartForkserver(VERSION, pool, log, str(folder), str(link), os.getpid())
        started = spawn(Kind.FORKSERVER, start, [readiness[1]], () if config is None else (config,))
        channel: Channel[ForkReport] = Channel(started.sock, ForkReport, outgoing=started.unsent)
        stack.callback(channel.close)
        try:
            if started.failure:
                raise StateError(f"a forkserver could not be sent its order: {started.failure}; try again")
            import_s = _answer(channel, pool, timeout_s)
            return Probed(import_s, _boot(channel, pool, folder, readiness[0], timeout_s))
        except ChannelClosed:
            _wait_for_end(started.pid, _LEAVES_WITHIN_S)
            raise ImportFailed(f"{_where(pool)}: its import ended the process, {_end(started.pid)}") from None
        finally:
            _end(started.pid)


@contextmanager
def _listening(path: Path) -> Iterator[None]:
    """The link socket of a pool. No process accepts: a worker's Hello waits, as while a consumer is replaced."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


@contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of orphans meanwhile, as the master is, and kill those that are left."""
    before = set(posix.own_children())
    posix.become_subreaper()
    try:
        yield
    finally:
        until_s = monotonic_s() + _LEAVES_WITHIN_S
        while (left := set(posix.own_children()) - before) and monotonic_s() < until_s:
            for pid in left:
                _end(pid)
        posix.become_subreaper(False)


def _reports(channel: Channel[ForkReport], timeout_s: float) -> Iterator[ForkReport]:
    """What the forkserver says within the time limit, while what is left to be sent to it is sent."""
    deadline_s = monotonic_s() + timeout_s
    while (left_s := deadline_s - monotonic_s()) > 0:
        unsent = [] if channel.flush() else [channel]
        heard, _room, _ = select.select([channel], unsent, [], left_s)
        yield from channel.receive() if heard else ()


def _answer(channel: Channel[ForkReport], pool: PoolConfig, timeout_s: float) -> float:
    for report in _reports(channel, timeout_s):
        match report:
            case Imported(seconds):
                return seconds
            case BootFailed(reason, stack):
                raise ImportFailed(reason, stack)
    raise ImportFailed(f"{_where(pool)}: its import takes longer than {show_seconds(timeout_s)}")


# ---- the worker -----------------------------------------------------------------------------------------------------


def _boot(channel: Channel[ForkReport], pool: PoolConfig, folder: Path, readiness: int, timeout_s: float) -> float:
    """Have a worker forked, wait until it is ready, and let it leave; the seconds until it was ready.

    Raises ImportFailed where it cannot be forked, WorkerFailed where it cannot boot.
    """
    (folder / "slots").mkdir(exist_ok=True)
    Slot(folder / "slots" / f"{_SLOT}.slot").close()  # only the master makes slot files
    began_s = monotonic_s()
    channel.send(Fork(_SLOT, _GENERATION))
    match next((report for report in _reports(channel, timeout_s) if isinstance(report, Forked | ForkFailed)), None):
        case Forked(pid=pid):
            _await_readiness(pool, folder, readiness, pid)
        case ForkFailed(reason=reason):
            raise ImportFailed(f"{_where(pool)}: no worker can be forked after its import: {reason}")
        case _:
            reason = f"the forkserver does not answer within {show_seconds(timeout_s)}"
            raise ImportFailed(f"{_where(pool)}: no worker can be forked after its import: {reason}")
    took_s = monotonic_s() - began_s
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    _wait_for_end(pid, _EXIT_CALLBACKS_S)
    _end(pid)
    return took_s


def _await_readiness(pool: PoolConfig, folder: Path, readiness: int, pid: int) -> None:
    stacks = folder / "stacks" / f"{_SLOT}.txt"
    descriptor = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([readiness, descriptor], [], [], pool.boot_timeout_s)
    finally:
        os.close(descriptor)
    if readiness in ready:
        return
    if not ready:
        _dump(pid, stacks)
        limit = f"boot_timeout = {show_seconds(pool.boot_timeout_s)}"
        _end(pid)
        raise WorkerFailed(pool, f"the worker is not ready within {limit}", _text(stacks))
    ended, stack = _end(pid), _text(stacks)
    last_line = stack.strip().rpartition("\n")[2]
    raise WorkerFailed(pool, f"a worker cannot boot: {last_line or f'it ended {ended}'}", stack)


def _dump(pid: int, stacks: Path) -> None:
    """Have a worker that hangs write its stack."""
    os.kill(pid, signal.SIGQUIT)
    until_s = monotonic_s() + _DUMP_S
    while not _text(stacks) and monotonic_s() < until_s:
        _wait_for_end(pid, 0.02)


def _text(stacks: Path) -> str:
    with suppress(OSError), stacks.open("rb") as file:
        return users_frames(file.read(STACK_BYTES).decode(errors="replace"))
    return ""


def _where(pool: PoolConfig) -> str:
    return f"pools.{pool.name}.handler = {pool.handler!r}"


def _wait_for_end(pid: int, timeout_s: float) -> None:
    """Let a process leave by itself, so that its own status is seen; not for ever."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            posix.readable(descriptor, timeout_s)
        finally:
            os.close(descriptor)


def _end(pid: int) -> str:
    """End a process and its group, and reap it; how it ended. Harmless when it is reaped already."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return f"by {posix.signal_name(-code)}" if code < 0 else f"with status {code}"
    return ""
