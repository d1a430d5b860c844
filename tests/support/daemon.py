"""A whole daemon as a test drives it: its own state, the embedded queue, real processes; it leaves nothing behind.

Everything it started carries a mark in its environment, by which it is found and ended when the test is over, whatever
the test did to the master. After a failure the log and the exits are printed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.control.client import ControlClient
from supervisor.errors import ControlError
from supervisor.messages.message import Properties, Publication
from supervisor.system.posix import executes
from tests.support.settled_log import settle_log
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
_MARK = "PREFORKD_TEST_MARK"

Exit = dict[str, Any]


class Daemon:
    """One state directory and the daemons that run on it, one after another.

    `settings` are lines of `[pools.email]`, `daemon` lines of `[daemon]`. `program`: how preforkd is called.
    """

    program: Sequence[str] = (sys.executable, "-m", "supervisor")

    def __init__(self, directory: Path, settings: str, daemon: str = "") -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.state_dir, self.runtime_dir = directory / "state", directory / "run"
        self.config_path = directory / "preforkd.toml"
        self.marks = directory / "marks"
        self.marks.mkdir()
        self.configure(settings, daemon)

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration; it counts from the next start on."""
        self.config_path.write_text(
            f'[daemon]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.runtime_dir}"\n{daemon}\n'
            f'[log]\nlevel = "debug"\n'
            f'[pools.email]\nqueue = "email"\nhandler = "daemon_handlers:run"\npath = ["{Path(__file__).parent}"]\n'
            f'{settings}\n[pools.email.environment]\nMARKS = "{self.marks}"\n'
        )

    @property
    def log_path(self) -> Path:
        """The log, with all that was logged before."""
        settle_log(self.process.pid if self.process is not None else None)
        return self.directory / "log"

    # ---- life -----------------------------------------------------------------------------------------------------

    def start(self, ready: bool = True, stale_s: float | None = None, prefix: str = "") -> None:
        """Start a daemon; wait until it is ready.

        `stale_s`: with a hang detector of this timeout, in seconds; `prefix`: shell code that ends in `exec `.
        """
        command = [*self.program, "--config", str(self.config_path), "run"]
        if stale_s is not None:
            command = [sys.executable, "-m", "tests.support.impatient_daemon", str(self.config_path), str(stale_s)]
        if prefix:
            command = ["sh", "-c", prefix + shlex.join(command)]
        environment = {**os.environ, _MARK: str(self.directory), "SPT_NOENV": "1"}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        if ready:
            eventually(self.is_ready, "the daemon is ready")

    def is_ready(self) -> bool:
        """Whether it runs, with everything up. Fails at once when it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with status {self.process.returncode}"
        with suppress(ControlError):
            return bool(self.status()["state"] == "running")
        return False

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Stop it; its exit status."""
        assert self.process is not None
        self.process.send_signal(signum)
        return self.wait()

    def kill(self) -> None:
        """kill -9 of the master alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its end; its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def processes(self) -> list[int]:
        """Everything that was started by a daemon here and still executes."""
        mark = f"{_MARK}={self.directory}".encode()
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and executes(int(entry.name)) and mark in _environment(entry)
        ]

    def titled(self, title: str) -> list[int]:
        """The processes whose titles match this pattern: `worker email/0`, `consumer email`, `master`."""
        return [pid for pid in self.processes() if re.fullmatch(f"preforkd: {title}", _title(pid))]

    def kill_all(self) -> None:
        """kill -9 of all processes, as if at one moment: none that still runs sees another one dead."""
        frozen: list[int] = []
        while fresh := self.processes():
            send_signal(fresh, signal.SIGSTOP)
            frozen += fresh
        send_signal(frozen, signal.SIGKILL)
        self.wait()

    def clean_up(self) -> None:
        """End everything that is left."""
        for _ in range(100):
            left = self.processes()
            if not left:
                break
            send_signal(left, signal.SIGKILL)
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    # ---- work -----------------------------------------------------------------------------------------------------

    def send(
        self, do: str, *arguments: Any, message_id: str = "", queue: str = "email", timestamp: int | None = None
    ) -> None:
        """Send a message to daemon_handlers:run."""
        body = json.dumps({"do": do, "arguments": arguments}).encode()
        properties = Properties(message_id=message_id or do, timestamp=timestamp)
        with open_admin(BrokerConfig(), str(self.state_dir)) as admin:
            report = admin.publish([Publication("", queue, properties, body)], 10, lambda total: None)
        assert report.sent == 1, report

    def marked(self, name: str) -> list[str]:
        """What handlers have written to a mark file, line by line."""
        path = self.marks / name
        return path.read_text().splitlines() if path.exists() else []

    # ---- what can be seen -----------------------------------------------------------------------------------------

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """The daemon's answer to a request."""
        with ControlClient(self.runtime_dir) as client:
            return client.ask(verb, **arguments)

    def status(self) -> dict[str, Any]:
        """The status object."""
        return self.ask("status")

    def pool(self) -> dict[str, Any]:
        """The status of the only pool."""
        pool: dict[str, Any] = self.status()["pools"]["email"]
        return pool

    def worker(self, slot: int = 0) -> dict[str, Any]:
        """The status of one worker."""
        worker: dict[str, Any] = self.pool()["workers"][slot]
        return worker

    def exits(self, **facts: Any) -> list[Exit]:
        """The exit records in which these fields have these values; a line that is being written is left out."""
        path = self.state_dir / "exits.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        records = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [record for record in records if facts.items() <= record.items()]

    def exit(self, **facts: Any) -> Exit:
        """The one exit record with these values, as soon as it is there."""
        found = eventually(lambda: self.exits(**facts), f"an exit with {facts}")
        assert len(found) == 1, found
        return found[0]

    def events(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        """The log lines of an event in which these fields have these values."""
        lines = [json.loads(line) for line in self.log_path.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == event and facts.items() <= line.items()]

    def has(self, event: str, **facts: Any) -> Callable[[], bool]:
        """Whether the log has such a line; for `eventually`."""
        return lambda: bool(self.events(event, **facts))


@contextmanager
def daemon(directory: Path, settings: str = "workers = 1", daemon: str = "", start: bool = True) -> Iterator[Daemon]:
    """A daemon for a test; evidence is printed when the test fails, and nothing is left."""
    under_test = Daemon(directory, settings, daemon)
    with cleaned_up(under_test, start):
        yield under_test


@contextmanager
def cleaned_up(under_test: Daemon, start: bool) -> Iterator[None]:
    """Started at the beginning if `start`, gone at the end."""
    try:
        if start:
            under_test.start()
        yield
    except BaseException:
        print(under_test.log_path.read_text() if under_test.log_path.exists() else "no log")  # noqa: T201
        raise
    finally:
        under_test.clean_up()


def send_signal(pids: Iterable[int], signum: int) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def _title(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0 ")
    return ""


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
