"""`python -P -m supervisor.forkserver FD`: started by the master only; FD is this end of their socketpair.

Receives StartForkserver and the pool's readiness pipe, imports the handler, freezes memory (gc.freeze) and serves. Only
this file knows forkserver and worker: a forked process becomes a worker here. After a failed boot it must exit by
os._exit: threads started by the import could block a normal exit.
"""

from __future__ import annotations

import functools
import gc
import io
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from os import _exit as leave  # bound before user code can replace it
from os import getpid
from pathlib import Path
from typing import NoReturn

import msgspec

from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError, PreforkdError
from supervisor.forkserver.handler_import import Handlers, import_handlers
from supervisor.forkserver.server import Forkserver
from supervisor.link.channel import (
    Channel,
    ChannelClosed,
    NotUnderstood,
    OtherBuild,
    receive_with_descriptors,
    refuse_build,
)
from supervisor.link.frames import BootFailed, ConsumerFrame, ForkOrder, Imported, StartForkserver
from supervisor.logs import structured
from supervisor.logs.prints import prints
from supervisor.logs.run_fields import run_fields
from supervisor.scoreboard.board import Board
from supervisor.system import descent, descriptors, posix
from supervisor.system.clock import monotonic_s
from supervisor.system.posix import identity
from supervisor.system.process_state import Replacements, blaming
from supervisor.system.stacks import dump_on_sigquit, open_stacks, reason_of, sendable, stack_of
from supervisor.worker.handler_call import import_tracing
from supervisor.worker.process import WorkerSpec, run_worker
from supervisor.worker.requests import reset_signals
from supervisor.worker.upkeep import Upkeep, open_null


def main(argv: list[str]) -> None:
    """Serve the master behind descriptor `argv[1]` until it sends Quit or is gone."""
    sock = socket.socket(fileno=posix.move_up(int(argv[1])))
    try:
        start, (notification,) = receive_with_descriptors(sock, StartForkserver, 1)
    except OtherBuild:
        leave(refuse_build(sock))
    except ChannelClosed:
        return  # the master died before it sent the first frame
    notification = posix.move_up(notification)
    for descriptor in (sock.fileno(), notification):
        os.set_inheritable(descriptor, False)  # not for programs that user code starts
    channel: Channel[ForkOrder] = Channel(sock, ForkOrder)
    replacements = Replacements()
    try:
        board = Board(Path(start.pool_dir) / "board", owner=False)
        handlers = _boot(start, channel, notification)
        spec = WorkerSpec(start, handlers.run, handlers.init, replacements.put_back, handlers.middleware)
        Forkserver(channel, board, functools.partial(run_worker, spec, notification)).run()
    except NotUnderstood as error:
        text = "what the master sent cannot be understood: %s; leaving"
        logging.getLogger("preforkd.forkserver").error(text, error)
        leave(os.EX_SOFTWARE)
    except BaseException as error:  # noqa: BLE001  (any exception is a failed boot, with its stack)
        _give_up(channel, start.pool, error, replacements.put_back())
    channel.close()
    with suppress(AttributeError, OSError, ValueError):  # an object of user code
        sys.stdout.flush()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a failing flush would change the exit status


def _boot(start: StartForkserver, channel: Channel[ForkOrder], notification: int) -> Handlers:
    """Set up and import the handler, then freeze memory: no worker's garbage collector touches the shared pages."""
    stacks = _settle_in(start)
    descriptors.restore_limit(os.environ)
    started_s = monotonic_s()
    handlers = _import(start, {channel.fileno(), notification, stacks})
    dump_on_sigquit(stacks)
    _prepare()
    gc.collect()
    gc.freeze()
    # fail-point: forkserver.start-imported: the handler is imported, the master does not know
    channel.send(Imported(monotonic_s() - started_s))
    channel.flush()
    return handlers


def _prepare() -> None:
    """Fill caches that workers then share. Opens no descriptor, starts no thread."""
    import_tracing()
    posix.boot_id()  # written into every slot
    msgspec.msgpack.Decoder(ConsumerFrame)  # msgspec caches type information with the frames


def _settle_in(start: StartForkserver) -> int:
    """Set up this process as a forkserver; returns the descriptor of the file for its stacks."""
    if not posix.die_with_parent(signal.SIGKILL, start.master_pid):
        leave(os.EX_OK)  # the master is gone already
    posix.set_title(f"preforkd: forkserver {start.pool.name}")
    descent.mark(start.pool.name)
    for number in (signal.SIGINT, signal.SIGHUP):  # from the terminal, for the master
        signal.signal(number, signal.SIG_IGN)
    open_null(0)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # output of a handler is not lost with its worker
    prints.install()
    structured.configure(start.log, f"forkserver {start.pool.name}")
    run_fields.of_process(start.pool.name)
    stacks = open_stacks(start.pool_dir, "forkserver")
    dump_on_sigquit(stacks)
    return stacks


def _import(start: StartForkserver, own: set[int]) -> Handlers:
    """Import the handler, and restore the state of this process; `own`: descriptors that must stay open.

    Raises BootError if the import has left state from which workers cannot be forked.
    """
    identities = {descriptor: identity(descriptor) for descriptor in own}
    upkeep = Upkeep(start.log.level, {})
    pid = getpid()
    try:
        return import_handlers(start.pool)
    finally:
        reset_signals()
        signal.set_wakeup_fd(-1)
        changed = upkeep.adopt()
        upkeep.close()
        if getpid() != pid:
            raise BootError(_where(start.pool, "forked, and went on in the child (as a daemon does)"))
        if changed:
            raise BootError(_where(start.pool, f"changed {', '.join(changed)}"))
        if any(identity(descriptor) != former for descriptor, former in identities.items()):
            raise BootError(_where(start.pool, "closed descriptors that are not its own (as a daemon does)"))
        with suppress(AttributeError, OSError, ValueError):  # an object of user code
            sys.stdout.flush()  # every worker would write a buffer again
        prints.end_run()


def _where(pool: PoolConfig, what: str) -> str:
    return f"pools.{pool.name}: importing {pool.handler!r} {what}; do that in a program of its own"


def _give_up(channel: Channel[ForkOrder], pool: PoolConfig, error: BaseException, replaced: list[str]) -> NoReturn:
    """Report a failed boot with the stack of user code's exception, and exit.

    `replaced`: names of functions that the import had replaced and that are restored.
    """
    if isinstance(error, PreforkdError):
        reason, stack = str(error), stack_of(error.__cause__) if error.__cause__ else ""
    else:
        failed = f"pools.{pool.name}: after importing {pool.handler!r} this failed: {reason_of(error)}"
        reason = blaming(failed, replaced)
        stack = stack_of(error)
    try:
        channel.send(BootFailed(sendable(reason), stack))
        channel.socket.setblocking(True)
        channel.flush()
        sys.stdout.flush()
    except (ChannelClosed, AttributeError, OSError, ValueError):  # the import has closed the channel or the streams
        logging.getLogger("preforkd.forkserver").error("%s", reason)
    finally:
        leave(os.EX_CONFIG)


if __name__ == "__main__":
    main(sys.argv)
