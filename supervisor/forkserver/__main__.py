"""`python -P -m supervisor.forkserver FD`: started by the master only; FD is this end of their socketpair.

Reads StartForkserver and the pool's bell from it, imports the handler, freezes what is in memory and serves. It is also
where a forked process turns into a worker, the one place that knows both. It must leave by os._exit when the boot
failed: threads that an import left behind would keep a normal exit waiting.
"""

from __future__ import annotations

import faulthandler
import functools
import gc
import io
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from supervisor import descent, logs, posix
from supervisor.clock import monotonic_s
from supervisor.errors import BootError, PreforkdError
from supervisor.forkserver.birth import Cradle
from supervisor.forkserver.handlers import Handlers, import_handlers
from supervisor.forkserver.server import Forkserver
from supervisor.link.channel import Channel, ChannelClosed, OtherBuild, receive_with_descriptors, refuse_build
from supervisor.link.frames import BootFailed, ForkOrder, Imported, StartForkserver
from supervisor.log_guard import LogGuard
from supervisor.log_pipe import print_through_relay
from supervisor.scoreboard.board import Board
from supervisor.stacks import sendable, stack_of
from supervisor.worker import shared
from supervisor.worker.process import Calling, run_worker


def main(argv: list[str]) -> None:
    """Serve the master behind descriptor `argv[1]` until it says Quit or is gone."""
    sock = socket.socket(fileno=int(argv[1]))
    try:
        start, (bell,) = receive_with_descriptors(sock, StartForkserver, 1)
    except OtherBuild:
        os._exit(refuse_build(sock))
    except ChannelClosed:
        return  # the master died before it told us what to do
    for descriptor in (sock.fileno(), bell):
        os.set_inheritable(descriptor, False)  # programs that user code starts get neither
    channel: Channel[ForkOrder] = Channel(sock, ForkOrder)
    try:
        handlers, _gaps = _boot(start, channel)
        board = Board(Path(start.pool_dir) / "board", owner=False)
    except (PreforkdError, OSError) as error:
        _give_up(channel, error)
    Forkserver(channel, board, functools.partial(_be_worker, start, handlers, bell)).run()


def _boot(start: StartForkserver, channel: Channel[ForkOrder]) -> tuple[Handlers, list[bytes]]:
    """Settle in and import the handler; what is in memory then stays shared: no worker's collector touches it.

    Comes with what is to be kept for `fill_gaps`.
    """
    _settle_in(start)
    started_s = monotonic_s()
    log_guard = LogGuard(start.log.level)
    handlers = import_handlers(start.pool)
    log_guard.restore()
    shared.prepare()
    sys.stdout.flush()  # what stays in a buffer would be written again by every worker
    gc.collect()
    gaps = shared.fill_gaps()
    gc.freeze()
    # fail-point: forkserver.start-imported: the handler is imported, the master does not know
    channel.send(Imported(monotonic_s() - started_s))
    channel.flush()
    return handlers, gaps


def _settle_in(start: StartForkserver) -> None:
    if not posix.die_with_parent(signal.SIGKILL, start.master_pid):
        os._exit(os.EX_OK)  # the master is gone already
    posix.set_title(f"preforkd: forkserver {start.pool.name}")
    descent.mark(start.pool.name)
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal's: they are for the master
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a handler prints is not lost with its worker
    print_through_relay()
    logs.configure(start.log, f"forkserver {start.pool.name}")
    stacks = Path(start.pool_dir) / "stacks"
    stacks.mkdir(parents=True, exist_ok=True)
    report = os.open(stacks / "forkserver.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    faulthandler.register(signal.SIGQUIT, file=report, all_threads=True, chain=False)


def _be_worker(start: StartForkserver, handlers: Handlers, bell: int, cradle: Cradle) -> NoReturn:
    run_worker(Calling(start, handlers.run, handlers.init), bell, cradle)


def _give_up(channel: Channel[ForkOrder], error: PreforkdError | OSError) -> NoReturn:
    stack = stack_of(error.__cause__) if isinstance(error, BootError) and error.__cause__ else ""
    channel.send(BootFailed(sendable(str(error)), stack))
    channel.socket.setblocking(True)
    channel.flush()
    sys.stdout.flush()
    os._exit(os.EX_CONFIG)


if __name__ == "__main__":
    main(sys.argv)
