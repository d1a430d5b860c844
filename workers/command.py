"""The ready-made handler `workers.command:run`: a program per message, in any language, its body on standard input.

Runs in workers. The pool's environment names the program: `PREFORKD_COMMAND` is split into words by shlex and never
given to a shell. `PREFORKD_COMMAND_OUTPUT` selects what happens to the output of a successful program.
docs/handlers.md has the contract with the program.
No process of the program may outlive its run. The program has its own process group, which is recorded in the worker's
slot while it lives, and the group is killed before the run ends. If the worker dies, the kernel kills the group.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import select
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from inspect import currentframe
from io import FileIO
from types import FrameType
from typing import NamedTuple

import msgspec

from supervisor import Message, Reject, Retry, SoftTimeout, record_group
from supervisor.errors import BootError
from supervisor.system.posix import signal_name

TAIL_BYTES = 4096
"""The last bytes of a program's output that are kept."""

DROP, LOG = "drop", "log"
"""Values of PREFORKD_COMMAND_OUTPUT: what happens to the output of a program that succeeded."""

_logger = logging.getLogger("preforkd.workers.command")

_CHUNK = 64 * 1024
_LAST_READS = 64
_LIFELINE = 100
"""The program's descriptor of the pipe whose other end only the worker has. Scripts use lower numbers."""

_IGNORED_HERE = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that the worker or Python ignores; a program starts with their defaults."""


class ProgramFailed(Exception):
    """The program could not be started, was killed, or exited with a status other than 0, 75 and 65."""


class Ending(NamedTuple):
    """How a program ended. `status`: exit status, or minus the signal's number; `tail`: the end of its output."""

    program: str
    status: int
    tail: str

    def __str__(self) -> str:
        how = f"left with status {self.status}" if self.status >= 0 else f"was killed by {signal_name(-self.status)}"
        return _told(self.program, how, self.tail)


def command_from(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The words of PREFORKD_COMMAND in `environment`. Raises BootError if it is unset or names no program."""
    try:
        words = tuple(shlex.split(environment.get("PREFORKD_COMMAND", "")))
    except ValueError as error:
        raise BootError(f"PREFORKD_COMMAND cannot be split into words: {error}; check its quotes") from error
    if not words:
        raise BootError(
            "PREFORKD_COMMAND is not set: name the program for workers.command:run in the pool's environment, "
            'like PREFORKD_COMMAND = "/usr/local/bin/resize --width 100"'
        )
    if shutil.which(words[0], path=environment.get("PATH")) is None:
        raise BootError(
            f"PREFORKD_COMMAND: there is no program {words[0]!r}; give its path, or correct PATH or its mode"
        )
    return words


def output_from(environment: Mapping[str, str]) -> str:
    """PREFORKD_COMMAND_OUTPUT in `environment`, `drop` by default. Raises BootError for an unknown value."""
    asked = environment.get("PREFORKD_COMMAND_OUTPUT", DROP)
    if asked not in (DROP, LOG):
        raise BootError(
            f"PREFORKD_COMMAND_OUTPUT = {asked!r}: there is no such choice; write {DROP!r} or {LOG!r}, which writes "
            "the output of a program that succeeded to the log"
        )
    return asked


def run(message: Message) -> None:
    """Run the program for one message. Raises Retry for status 75, Reject for 65, ProgramFailed for others but 0."""
    ending = run_program(_COMMAND, os.environ | facts_of(message), message.body)
    match ending.status:
        case 0:
            if ending.tail and _OUTPUT == LOG:
                _logger.info("message %s: %s", message.id or "(without an id)", ending)
        case os.EX_TEMPFAIL:
            raise Retry(reason=str(ending))
        case os.EX_DATAERR:
            raise Reject(str(ending))
        case _:
            raise ProgramFailed(str(ending))


def facts_of(message: Message) -> dict[str, str]:
    """The environment variables that describe a message to the program."""
    facts = {
        "PREFORKD_MESSAGE_ID": message.id,
        "PREFORKD_QUEUE": message.queue,
        "PREFORKD_ROUTING_KEY": message.routing_key,
        "PREFORKD_ROUND": str(message.round),
        "PREFORKD_ATTEMPT": str(message.attempt),
        "PREFORKD_FENCE": str(message.fence),
        "PREFORKD_REDELIVERED": "1" if message.redelivered else "0",
        "PREFORKD_HEADERS": msgspec.json.encode(message.headers).decode(),
    }
    return {name: value.replace("\0", "") for name, value in facts.items()}


def run_program(command: tuple[str, ...], environment: Mapping[str, str], body: bytes) -> Ending:
    """Run `command` to its end with `environment`, and `body` on its standard input.

    Raises ProgramFailed when it cannot be started, and SoftTimeout with the output so far. SoftTimeout is held back
    except while the program runs: a program that was started is always killed, reaped and removed from the slot.
    """
    with _AlarmsHeld() as alarms:
        program = _Program(command, environment)
        too_late = False
        try:
            record_group(program.pid, program.unfinished)
            program.watch()
            alarms.let_in()
            program.talk(body)
            alarms.hold()
        except SoftTimeout:
            too_late = True
        finally:  # SoftTimeout comes only once: after it no alarm has to be held
            status = program.end()
            record_group(0)
    if too_late:
        raise SoftTimeout(program.unfinished())
    return Ending(command[0], status, program.said())


class _Program:
    """A running program: the leader of its own session and process group."""

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.tail = b""
        self._name = command[0]
        self._poll = select.poll()
        with ExitStack() as files:
            stdin, self._stdin = _pipe(files)
            self._output, output = _pipe(files)
            lifeline, _workers_end = _pipe(files)
            os.set_blocking(self._stdin.fileno(), False)
            os.set_blocking(self._output.fileno(), False)
            try:
                self.pid = _spawn(command, environment, stdin.fileno(), output.fileno(), lifeline.fileno())
            except OSError as error:
                raise ProgramFailed(f"{command[0]} cannot be started: {error.strerror}") from error
            _kill_with_this_process(self.pid, lifeline.fileno())
            stdin.close()
            output.close()
            lifeline.close()
            self._files = files.pop_all()

    def watch(self) -> None:
        """Open the descriptor by which `talk` notices the program's end. May raise OSError."""
        self._ended = os.pidfd_open(self.pid)
        self._files.callback(os.close, self._ended)

    def talk(self, body: bytes) -> None:
        """Write the body and read the output until the leader has ended, without waiting for its descendants."""
        self._rest = memoryview(body)
        doings: dict[int, Callable[[], None]] = {self._stdin.fileno(): self._write, self._output.fileno(): self._read}
        self._poll.register(self._stdin, select.POLLOUT)
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._ended, select.POLLIN)
        while True:
            for descriptor, _events in self._poll.poll():
                if descriptor == self._ended:
                    return
                doings[descriptor]()

    def end(self) -> int:
        """Kill the group, reap the leader and close all files; returns the leader's exit code.

        The leader is reaped last: while it is a zombie, no other group can get its number.
        """
        with suppress(PermissionError):  # the whole group runs as another user: wait for its own end
            os.killpg(self.pid, signal.SIGKILL)
        for _ in range(_LAST_READS):  # bounded: a process that left the group may write for ever
            if not self._take_output():
                break
        _pid, status = os.waitpid(self.pid, 0)
        self._files.close()
        return os.waitstatus_to_exitcode(status)

    def said(self) -> str:
        """The end of its output so far, as text."""
        return self.tail.decode("utf-8", "replace").strip()

    def unfinished(self) -> str:
        """The text for a program that reached its time limit."""
        return _told(self._name, "did not end within its time", self.said())

    def _write(self) -> None:
        try:
            self._rest = self._rest[self._stdin.write(self._rest[:_CHUNK]) or 0 :]
        except BrokenPipeError:  # the program has closed its standard input
            self._rest = self._rest[:0]
        if not self._rest:
            self._poll.unregister(self._stdin)
            self._stdin.close()

    def _read(self) -> None:
        if not self._take_output():
            self._poll.unregister(self._output)

    def _take_output(self) -> bool:
        data = self._output.read(_CHUNK)
        self.tail = (self.tail + (data or b""))[-TAIL_BYTES:]
        return bool(data)


def _told(program: str, how: str, tail: str) -> str:
    said = f"its output ended with:\n{tail}" if tail else "it wrote nothing"
    return f"{program} {how}; {said}"


def _pipe(files: ExitStack) -> tuple[FileIO, FileIO]:
    read, write = os.pipe()
    return files.enter_context(FileIO(read, "rb")), files.enter_context(FileIO(write, "wb"))


def _kill_with_this_process(pgid: int, lifeline: int) -> None:
    """Let the kernel kill a program's process group when this process dies, and so closes the pipe's other end.

    `lifeline`: the end that the program has, too. fcntl(2), "Managing signals": the end of the last writer is an event,
    and its signal may be SIGKILL. PR_SET_PDEATHSIG is no choice: posix_spawn cannot set it, and it does not reach the
    children of a shell. Where the kernel refuses, the master ends the group.
    """
    with suppress(OSError):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -pgid)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)


def _spawn(command: tuple[str, ...], environment: Mapping[str, str], stdin: int, output: int, lifeline: int) -> int:
    """Start a program in a new session, with these ends of pipes as its standard streams and as its lifeline."""
    most, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return os.posix_spawnp(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, lifeline, _LIFELINE if most > _LIFELINE or most < 0 else most - 1),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_IGNORED_HERE,
    )


class _AlarmsHeld:
    """Defers the handler of SIGALRM, by which a worker raises SoftTimeout; a deferred alarm is not lost.

    Blocking the signal is not enough: another thread would take it, and Python would still call the handler.
    """

    def __enter__(self) -> _AlarmsHeld:
        self._rang = False
        self._handler = signal.getsignal(signal.SIGALRM)
        self.hold()
        return self

    def __exit__(self, *failure: object) -> None:
        self.let_in()

    def hold(self) -> None:
        """Defer alarms."""
        signal.signal(signal.SIGALRM, self._note)

    def let_in(self) -> None:
        """Stop deferring alarms, and deliver a deferred one now."""
        signal.signal(signal.SIGALRM, self._handler)
        rang, self._rang = self._rang, False
        if rang and callable(self._handler):
            self._handler(signal.SIGALRM, currentframe())

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._rang = True


_COMMAND, _OUTPUT = command_from(os.environ), output_from(os.environ)
