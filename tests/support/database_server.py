"""A private database server for tests: own folder, own port on 127.0.0.1; it may be killed and stopped at will.

The server is a direct child of the test run with PDEATHSIG set, in a session of its own, and not root's: both servers
refuse root, or should. Nothing of the machine's own servers is used. PDEATHSIG is sent at the end of the *thread* that
has started the server: fixtures run in the main thread, also in a worker of pytest-xdist.
"""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from tests.support.nobody import NOBODY
from tests.support.rabbitmq import all_threads_stopped, free_port
from tests.support.waiting import eventually

_BOUND = 'parent=$1; shift; [ "$PPID" = "$parent" ] || exit 1; exec "$@"'
"""Runs a command unless the parent has ended before PDEATHSIG was set."""

_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 20.0


class DatabaseServer(ABC):
    """One server. `folder`: its own, empty, and such that other users may enter it. `port`: the same after a restart.

    `end_signal`: ends it without waiting for clients; it also gets this when the test run is killed.
    """

    end_signal = signal.SIGKILL

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._continuer: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)

    # ---- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it (again) on the same data and port, and wait until it answers."""
        with (self.folder / "server.out").open("ab") as output:
            self._process = subprocess.Popen(
                [*bound_to_this_run(self.end_signal), *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._answers, f"{type(self).__name__} answers on port {self.port}\n{self.log()}", _START_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._running().pid

    def stop_signal(self) -> None:
        """SIGSTOP: connections stay open and no new one is accepted, as with a hung host.

        A stopped server acts on no signal but SIGKILL. If the test run is killed meanwhile, another process continues
        it: the end of its standard input tells it so. A second call changes nothing.
        """
        if self._continuer is not None:
            return
        group = self._running().pid
        children = f"$(cat /proc/{group}/task/{group}/children)"  # their groups may be their own
        command = ["sh", "-c", f"read _; kill -s CONT -- -{group} {children} 2>/dev/null"]
        self._continuer = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        os.killpg(group, signal.SIGSTOP)
        eventually(lambda: all_threads_stopped(group), f"{type(self).__name__} is stopped")

    def cont(self) -> None:
        """SIGCONT after `stop_signal`."""
        if self._continuer is not None:
            self._continuer.communicate(timeout=_END_TIMEOUT_S)
            self._continuer = None

    def end(self, number: signal.Signals | None = None) -> None:
        """End it with a signal, as a rule with `end_signal`; the data stays.

        A stopped server that gets SIGKILL does nothing more: it must not go on before.
        """
        if self._process is None:
            return
        if number is signal.SIGKILL:
            self._process.kill()
        self.cont()
        self._process.send_signal(self.end_signal if number is None else number)
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None

    def log(self) -> str:
        """The end of what the server wrote, for a failed test."""
        path = self.folder / "server.out"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    # ---- what each server says --------------------------------------------------------------------------------------

    @abstractmethod
    def command(self) -> list[str]:
        """The words that run the server in the foreground; prepares its data where there is none."""

    @abstractmethod
    def ask(self, database: str, sql: str) -> list[tuple[object, ...]]:
        """Run statements in a connection of their own, each committed; the rows of the last one."""

    @abstractmethod
    def new_database(self) -> str:
        """Make an empty database and return its name."""

    @abstractmethod
    def url(self, database: str, driver: str) -> str:
        """The URL of a database for SQLAlchemy, by the name of a driver."""

    # ---- inside -----------------------------------------------------------------------------------------------------

    def prepare(self, *command: str) -> None:
        """Run a program of the server's as its user."""
        words = [*bound_to_this_run(signal.SIGKILL), *command]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server is not running"
        return self._process

    def _answers(self) -> bool:
        if self._running().poll() is not None:
            raise AssertionError(f"{type(self).__name__} did not start:\n{self.log()}")
        try:
            self.ask("", "SELECT 1")
        except Exception:  # each driver's own: not yet
            return False
        return True


def bound_to_this_run(end_signal: signal.Signals) -> list[str]:
    """The words before a command that is not to run as root, and gets `end_signal` at the end of this thread.

    In this order: the kernel forgets that signal when the user changes (prctl(2), PR_SET_PDEATHSIG).
    """
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"] if os.geteuid() == 0 else []
    return [*user, "setpriv", "--pdeathsig", end_signal.name[3:], "sh", "-c", _BOUND, "sh", str(os.getpid())]
