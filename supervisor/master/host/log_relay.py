"""Starts the log relay, puts its pipes in place of stdout and stderr, replaces it when it has ended. Master only.

Made before anything is started, so that every child inherits the pipes. The master keeps the reading ends open: while
there is no relay for a moment, no `print` fails, and written lines wait in the pipes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from supervisor.config.schema import LogConfig
from supervisor.errors import StateError
from supervisor.logs import relay, structured
from supervisor.logs.events import Event
from supervisor.logs.pipe import STREAM_VARIABLE, stream_variable
from supervisor.logs.relay import FILE, FINISH, FINISH_S
from supervisor.logs.structured import log
from supervisor.logs.target import JOURNAL, STDERR, TERMINAL, Target, reader_of
from supervisor.master.host.signals import TOUCHED
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

RESTART_S = 1.0
PIPE_BYTES = 1024**2

_LOW_DESCRIPTORS = 16  # the program's own descriptors are below; those to be duplicated there must not be
_STANDARD = (1, 2)


class LogRelay:
    """The relay of one daemon. Raises StateError when it cannot be started.

    Until `close`, everything that this process and its children write to stdout and stderr goes through it.
    """

    def __init__(self, config: LogConfig) -> None:
        self._real = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _LOW_DESCRIPTORS) for number in _STANDARD]
        self._reader = reader_of(self._real[1])
        self._config = config
        self._reads: list[int] = []
        self._control: socket.socket | None = None
        self._pid = self._pidfd = -1
        self._started_s = 0.0
        try:
            writes = self._make_pipes()
            self._start()
        except OSError as error:
            raise StateError(
                f"the log relay cannot be started: {error.strerror}; check the limits of this user"
            ) from error
        for number, write in zip(_STANDARD, writes, strict=True):
            os.dup2(write, number)
        for write in set(writes):
            os.close(write)
        os.environ[STREAM_VARIABLE] = stream_variable(self._reader)
        structured.configure(config, "master")

    def watch(self, reactor: Reactor, ignore: Callable[[int], None]) -> None:
        """Replace the relay whenever it ends. `ignore` is given its pid: it is no child of a pool."""
        ignore(self._pid)
        reactor.add_handler(self._pidfd, partial(self._ended, reactor, ignore), reactor.READ)

    def configure(self, config: LogConfig) -> None:
        """Take up other settings of `[log]`. Raises StateError when the file cannot be opened; nothing changes then."""
        if config.file != STDERR:
            Target(config.file).close()  # the relay opens it by itself, and has no way to tell that it cannot
        self._config = config
        self._order(FILE + os.fsencode(config.file))
        structured.configure(config, "master")

    def close(self) -> None:
        """Wait until everything is written, but for no reader for long; stdout and stderr are as before."""
        self._order(FINISH)
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                if not posix.readable(self._pidfd, FINISH_S + 1.0):
                    os.kill(self._pid, signal.SIGKILL)
            os.close(self._pidfd)
        os.environ.pop(STREAM_VARIABLE, None)
        for number, real in zip(_STANDARD, self._real, strict=True):
            os.dup2(real, number)
        for descriptor in {*self._real, *self._reads}:
            os.close(descriptor)
        if self._control is not None:
            self._control.close()
        with suppress(StateError):  # a file that cannot be opened any more: there is nothing left to log
            structured.configure(self._config, "master")

    # ---- the process ----------------------------------------------------------------------------------------------

    def _make_pipes(self) -> list[int]:
        """One pipe where stdout and stderr are the same file, else two; the end to write for each of them."""
        writes = []
        for _ in range(1 if os.path.samestat(*map(os.fstat, self._real)) else 2):
            read, write = os.pipe()
            self._reads.append(fcntl.fcntl(read, fcntl.F_DUPFD_CLOEXEC, _LOW_DESCRIPTORS))
            os.close(read)
            with suppress(OSError):  # this user has many pipes already: it works with less
                fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            writes.append(write)
        return [writes[0], writes[-1]]

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            control = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _LOW_DESCRIPTORS)
        given = (control, *self._real, *self._reads)
        program = [sys.executable, "-I", "-S", str(Path(relay.__file__)), str(len(self._reads))]
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [*program, self._style, self._config.file],
                {name: os.environ[name] for name in ("TZ", "LANG", "LC_ALL", "PATH") if name in os.environ},
                file_actions=[(os.POSIX_SPAWN_DUP2, number, at) for at, number in enumerate(given)],
                setpgroup=0,
                setsigmask=(),
                setsigdef=TOUCHED,
            )
        except OSError:
            ours.close()
            raise
        finally:
            os.close(control)
        self._started_s = monotonic_s()
        self._pidfd = os.pidfd_open(self._pid)
        if self._control is not None:
            self._control.close()
        self._control = ours

    @property
    def _style(self) -> str:
        """How the relay tells of a loss: as the lines around it are."""
        if self._config.file == STDERR and self._config.format == "auto":
            return {TERMINAL: "console", JOURNAL: "plain"}.get(self._reader, "json")
        return "console" if self._config.format == "console" else "json"

    def _ended(self, reactor: Reactor, ignore: Callable[[int], None], descriptor: int, events: int) -> None:
        reactor.remove_handler(descriptor)
        os.close(descriptor)
        self._pidfd = -1
        restart = partial(self._restart, reactor, ignore)
        reactor.call_later(max(0.0, self._started_s + RESTART_S - monotonic_s()), restart)

    def _restart(self, reactor: Reactor, ignore: Callable[[int], None]) -> None:
        try:
            self._start()
        except OSError:  # no process, no descriptor just now
            reactor.call_later(RESTART_S, partial(self._restart, reactor, ignore))
            return
        self.watch(reactor, ignore)
        text = "the log relay had ended and was replaced; the lines that it held are lost"
        log(Event.LOG_RELAY_REPLACED, text, level=logging.WARNING)

    def _order(self, order: bytes) -> None:
        with suppress(OSError):  # it has ended, and will be told at its start
            if self._control is not None:
                self._control.send(order)
