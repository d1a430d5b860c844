"""Does a pool's handler import? Asked of a real forkserver, so that `check` and the daemon cannot disagree.

The forkserver runs as our child with a throw-away folder, and is killed with everything that the import has started.
It is ordered to fork one worker into a slot that we hold: the worker is born and is refused the slot, so neither `init`
nor a handler runs, and no process is left. No user code runs in the command line's own process.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from supervisor.config.schema import Config, LogConfig, PoolConfig
from supervisor.errors import BootError, StateError
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import VERSION, BootFailed, Fork, ForkFailed, ForkReport, Imported, StartForkserver
from supervisor.master.pool.children import Kind
from supervisor.master.pool.spawn import spawn
from supervisor.quantities import show_seconds
from supervisor.scoreboard.slot import Slot
from supervisor.system.clock import monotonic_s
from supervisor.system.posix import readable, signal_name, start_ticks

TIMEOUT_S = 60.0
_SLOT, _GENERATION = 0, 1
_LEAVES_WITHIN_S = 2.0


class ImportFailed(BootError):
    """The handler cannot be put to work; `stack` is where in the user's code, "" where that says nothing."""

    def __init__(self, reason: str, stack: str = "") -> None:
        super().__init__(reason)
        self.stack = stack


def probe_handler(
    pool: PoolConfig, timeout_s: float = TIMEOUT_S, state_dir: Path | None = None, config: Config | None = None
) -> float:
    """Import a pool's handler in a forkserver of its own and fork a worker; how long the import took, in seconds.

    `state_dir`: where its throw-away folder is made if there is no other place. `config`: its variables are there for
    the import, its secrets are not, as in the daemon. Raises ImportFailed, or StateError where no process can be
    started or no folder be made.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_throw_away_folder(state_dir))
        notification = os.pipe()
        for descriptor in notification:
            stack.callback(os.close, descriptor)
        log = LogConfig(level="error", format="console")
        start = StartForkserver(VERSION, pool, log, folder, str(Path(folder, "link.sock")), os.getpid())
        started = spawn(Kind.FORKSERVER, start, [notification[1]], () if config is None else (config,))
        pid = started.pid
        channel: Channel[ForkReport] = Channel(started.sock, ForkReport, outgoing=started.unsent)
        stack.callback(channel.close)
        try:
            if started.failure:
                raise StateError(f"a forkserver could not be sent its order: {started.failure}; try again")
            took_s = _answer(channel, pool, timeout_s)
            _try_fork(channel, pool, Path(folder), timeout_s)
            return took_s
        except ChannelClosed:
            _wait_for_end(pid)
            raise ImportFailed(f"{_where(pool)}: its import ended the process, {_end(pid)}") from None
        finally:
            _end(pid)


def _throw_away_folder(state_dir: Path | None) -> tempfile.TemporaryDirectory[str]:
    """In $TMPDIR, /tmp and so on; where nothing may be written there, beside the daemon's own state."""
    for place in (None, *((state_dir, state_dir.parent) if state_dir else ())):
        with suppress(OSError):
            return tempfile.TemporaryDirectory(prefix="preforkd-check-", dir=place)
    raise StateError(
        f"no folder to test the handler in: no file can be written in $TMPDIR, /tmp, /var/tmp "
        f"or {state_dir or 'here'}; name one in TMPDIR"
    )


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


def _try_fork(channel: Channel[ForkReport], pool: PoolConfig, folder: Path, timeout_s: float) -> None:
    """Have a worker forked that gets as far as its slot. Raises ImportFailed with what stops it before."""
    (folder / "slots").mkdir(exist_ok=True)
    with closing(Slot(folder / "slots" / f"{_SLOT}.slot")) as slot:
        slot.take(os.getpid(), start_ticks(os.getpid()) or 0, _GENERATION)
        channel.send(Fork(_SLOT, _GENERATION))
        failures = (report.reason for report in _reports(channel, timeout_s) if isinstance(report, ForkFailed))
        reason = next(failures, f"the forkserver does not answer within {show_seconds(timeout_s)}")
    if f"locked by pid {os.getpid()}" not in reason:
        raise ImportFailed(f"{_where(pool)}: no worker can be forked after its import: {reason}")


def _where(pool: PoolConfig) -> str:
    return f"pools.{pool.name}.handler = {pool.handler!r}"


def _wait_for_end(pid: int) -> None:
    """Let a process that has closed its channel leave by itself, so that its own status is seen; not for ever."""
    descriptor = os.pidfd_open(pid)
    try:
        readable(descriptor, _LEAVES_WITHIN_S)
    finally:
        os.close(descriptor)


def _end(pid: int) -> str:
    """End the forkserver and what it started, and reap it; how it ended. Harmless when it is reaped already."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return f"by {signal_name(-code)}" if code < 0 else f"with status {code}"
    return ""
