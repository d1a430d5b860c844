"""One command that runs for an event: its time limit, end and output. Used by the hooks process.

It leads a process group, which is killed at its end or at its time limit, and it dies with this process. Its input is
a file and its output a pipe that the reactor empties, so this process never waits for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

from supervisor.hooks.deliveries import Delivery
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

_READ_BYTES = 64 * 1024
_KEPT_BYTES = 2000


class Job:
    """A running delivery. `ended(job)` is called once, by the reactor. Raises OSError if it cannot be started."""

    def __init__(self, delivery: Delivery, timeout_s: float, reactor: Reactor, ended: Callable[[Job], None]) -> None:
        self.delivery = delivery
        self.overdue = False
        self._reactor = reactor
        self._ended = ended
        self._said = b""
        self._output, their_output = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.set_blocking(their_output, True)
            self._process = _execute(delivery, their_output)
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(their_output)
        self.kill_due_s = monotonic_s() + timeout_s
        self._pidfd = os.pidfd_open(self._process.pid)
        reactor.add_handler(self._output, lambda fd, events: self._hear(), reactor.READ)
        reactor.add_handler(self._pidfd, lambda fd, events: self._reap(), reactor.READ)

    def kill(self) -> None:
        """Kill its process group at the time limit."""
        self.overdue, self.kill_due_s = True, float("inf")
        self._kill_group()

    @property
    def status(self) -> int:
        """Its exit status; negative for a signal."""
        return int(self._process.returncode)

    @property
    def said(self) -> str:
        """The end of its output."""
        return self._said.decode(errors="replace").strip()

    def _hear(self) -> bool:
        """Read a part of its output; False if there is none now."""
        with suppress(BlockingIOError):
            if data := os.read(self._output, _READ_BYTES):
                self._said = (self._said + data)[-_KEPT_BYTES:]
                return True
            self._reactor.remove_handler(self._output)
        return False

    def _reap(self) -> None:
        self._kill_group()  # before waitpid(2), while no other group can have its number
        self._process.wait()
        while self._hear():
            pass
        for descriptor in (self._output, self._pidfd):
            self._reactor.remove_handler(descriptor)
            os.close(descriptor)
        self._ended(self)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _execute(delivery: Delivery, output: int) -> subprocess.Popen[bytes]:
    parent_pid = os.getpid()
    with os.fdopen(os.memfd_create("event"), "w+b") as payload:
        payload.write(delivery.payload)
        payload.seek(0)
        return subprocess.Popen(
            delivery.command,
            stdin=payload,
            stdout=output,
            stderr=output,
            env={**os.environ, **delivery.variables},
            process_group=0,
            preexec_fn=lambda: posix.die_with_parent(signal.SIGKILL, parent_pid),
        )
