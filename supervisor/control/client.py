"""The command line's end of the control socket. Blocking, with a deadline; never used in the daemon.

Every failure is raised as a ControlError that says what to do about it.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Any

from supervisor.control import SOCKET_NAME
from supervisor.control.protocol import Facts, T, read_answer, request_line, typed
from supervisor.control.results import Status
from supervisor.errors import ControlError
from supervisor.system.clock import monotonic_s

TIMEOUT_S = 10.0
_TIMEVAL = struct.Struct("ll")  # struct timeval of socket(7)
_READ_BYTES = 64 * 1024


class NotRunning(ControlError):
    """No daemon listens in this runtime directory."""


class OtherRuntimeDir(NotRunning):
    """A daemon runs, but with another runtime directory than the configuration names."""

    exit_code = 78


class NoAnswer(ControlError):
    """The daemon did not answer in time."""


class ControlClient:
    """One connection to the daemon of a runtime directory. `verb`s and arguments are those of `protocol.VERBS`."""

    def __init__(self, runtime_dir: Path, timeout_s: float = TIMEOUT_S) -> None:
        """Connect. Raises NotRunning, or ControlError if the socket cannot be used (as for lack of permission)."""
        self._path = Path(runtime_dir) / SOCKET_NAME
        self._timeout_s = timeout_s
        self._incoming = b""
        self._socket = self._connect()

    def ask(self, verb: str, **arguments: Any) -> Facts:
        """Send `verb` and wait for its (first) answer. Raises ControlError: refused, no answer, closed."""
        self.send(verb, **arguments)
        return self.next_answer()

    def ask_for(self, kind: type[T], verb: str, **arguments: Any) -> T:
        """Ask for the result of `verb` as a `kind`. Raises like `ask`."""
        return typed(self.ask(verb, **arguments), kind)

    def status(self) -> Status:
        """What the daemon says of itself. Raises like `ask`."""
        return self.ask_for(Status, "status")

    def send(self, verb: str, **arguments: Any) -> None:
        """Send `verb`; its answer follows when the socket is readable. Raises NoAnswer after the time limit."""
        try:
            self._socket.sendall(request_line(verb, arguments))
        except TimeoutError as error:
            raise self._silent(self._timeout_s) from error
        except OSError:
            pass  # the daemon has closed the connection: its reason can still be read

    def fileno(self) -> int:
        """The socket, for select."""
        return self._socket.fileno()

    @property
    def heard(self) -> bool:
        """Whether a whole answer is buffered: select(2) will not report it."""
        return b"\n" in self._incoming

    def next_answer(self, timeout_s: float | None = None) -> Facts:
        """The next answer, within `timeout_s` seconds (None: the client's own limit). Raises like `ask`."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline_s = monotonic_s() + limit_s
        while b"\n" not in self._incoming:
            self._socket.settimeout(max(deadline_s - monotonic_s(), 0.001))
            try:
                data = self._socket.recv(_READ_BYTES)
            except TimeoutError as error:
                raise self._silent(limit_s) from error
            except OSError as error:
                raise self._gone() from error
            if not data:
                raise self._gone()
            self._incoming += data
        line, _newline, self._incoming = self._incoming.partition(b"\n")
        return read_answer(line)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        seconds, fraction = divmod(self._timeout_s, 1)
        try:
            # Not settimeout: a non-blocking connect fails at once where the backlog is full for a moment.
            limit = _TIMEVAL.pack(int(seconds), int(fraction * 1_000_000))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            client.connect(str(self._path))
        except OSError as error:
            client.close()
            raise self._cannot_connect(error) from error
        return client

    def _cannot_connect(self, error: OSError) -> ControlError:
        if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
            return NotRunning(
                f"preforkd is not running: nothing listens at {self._path}; `preforkd start` starts it "
                f"(or give another --config)"
            )
        if isinstance(error, PermissionError):
            return ControlError(f"{self._path}: no permission; use the daemon's user, or root (sudo)")
        if isinstance(error, TimeoutError | BlockingIOError):
            return self._silent(self._timeout_s)
        return ControlError(f"{self._path}: cannot connect: {error}; check [daemon] runtime_dir")

    def _silent(self, waited_s: float) -> NoAnswer:
        return NoAnswer(
            f"{self._path}: the daemon did not answer within {waited_s:g} s; it may be stopped (SIGSTOP), or "
            f"the machine overloaded; see its log and `ps`"
        )

    def _gone(self) -> ControlError:
        return ControlError(f"{self._path}: the daemon closed the connection before its answer; its log has the reason")
