"""The programs that run for an event: the hook's command, and a post to the webhook. Used by the hooks process.

A command gets the event as JSON on its standard input and its plain facts as variables, PREFORKD_CAUSE and so on.
`post.py` reads the webhook's URL from its input, so that the URL is in no argument list.

Each leads a process group, which is killed at its end or at its time limit, and dies with this process. Its input is a
file and its output a pipe that the reactor empties, so this process never waits for it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from supervisor.config.schema import HooksConfig
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

WEBHOOK = "webhook"
_VARIABLE_CHARACTERS = 1000
_READ_BYTES = 64 * 1024
_KEPT_BYTES = 2000


@dataclass
class Notification:
    """One program to run. `key`: the key of [hooks]; `tries`: the number of runs so far."""

    key: str
    command: list[str]
    variables: dict[str, str]
    payload: bytes
    tries: int = 0


def notifications(config: HooksConfig, hook: str, facts: Mapping[str, Any]) -> list[Notification]:
    """The programs to run for an event. `hook`: `exit`, `hold` or `dead`; `facts`: the event's JSON values."""
    event = json.dumps({"hook": hook, **facts}, ensure_ascii=False)
    found = []
    if command := {"exit": config.on_exit, "hold": config.on_hold, "dead": config.on_dead}.get(hook, ""):
        variables = _variables({"hook": hook, **facts})
        found.append(Notification(f"on_{hook}", shlex.split(command), variables, f"{event}\n".encode(errors="replace")))
    if config.webhook:
        order = json.dumps({"url": config.webhook, "event": event, "timeout_s": config.timeout_s})
        found.append(Notification(WEBHOOK, [sys.executable, "-P", "-m", "supervisor.hooks.post"], {}, order.encode()))
    return found


class Job:
    """A running notification. `ended(job)` is called once, by the reactor. Raises OSError if it cannot be started."""

    def __init__(
        self, notification: Notification, timeout_s: float, reactor: Reactor, ended: Callable[[Job], None]
    ) -> None:
        self.notification = notification
        self.overdue = False
        self._reactor = reactor
        self._ended = ended
        self._said = b""
        self._output, their_output = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.set_blocking(their_output, True)
            self._process = _execute(notification, their_output)
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


def _variables(facts: Mapping[str, Any]) -> dict[str, str]:
    """Plain facts of one line, an absent one as an empty variable. Stacks are only in the JSON."""
    plain = {name: _plain(value) for name, value in facts.items() if not isinstance(value, dict | list)}
    return {f"PREFORKD_{name.upper()}": text for name, text in plain.items() if "\n" not in text}


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\0", "").encode(errors="replace").decode()[:_VARIABLE_CHARACTERS].strip()


def _execute(notification: Notification, output: int) -> subprocess.Popen[bytes]:
    parent_pid = os.getpid()
    with os.fdopen(os.memfd_create("event"), "w+b") as payload:
        payload.write(notification.payload)
        payload.seek(0)
        return subprocess.Popen(
            notification.command,
            stdin=payload,
            stdout=output,
            stderr=output,
            env={**os.environ, **notification.variables},
            process_group=0,
            preexec_fn=lambda: posix.die_with_parent(signal.SIGKILL, parent_pid),
        )
