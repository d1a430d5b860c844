"""An installation in a folder of its own: configuration, handler, daemon; driven through the real command line.

Its processes are known by the files they hold open below the folder (setting a process title overwrites what /proc
shows of the environment), so that whatever a failed test leaves behind is found and ended, and nothing else is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.client import ControlClient
from supervisor.master.host.pidfile import PID_FILE, find_holder
from tests.support.settled_log import settle_log
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

_TIMEOUT_S = 60.0

_HANDLER = """
import os, signal
from pathlib import Path

HERE = Path(__file__).parent

def run(message):
    with open(HERE / "runs.txt", "a") as runs:
        runs.write(f"{message.id} {message.round} {message.attempt}\\n")
    order, _, name = message.text().partition(" ")
    if order == "fail":
        raise ValueError("as ordered")
    if order == "exit":
        raise SystemExit(int(name))
    if order == "interrupt":
        raise KeyboardInterrupt
    if order == "import":
        __import__(name)
    if order == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if order == "wait":  # until the test opens the other end
        open(HERE / name).read()
"""

_CONFIG = """
[daemon]
state_dir = "state"
runtime_dir = "run"
stop_timeout = "20s"
[broker]
url = "embedded:"
[pools.mail]
queue = "mail"
handler = "site_handler:run"
path = ["."]
workers = 1
max_attempts = 1
on_crash = "retry"
"""


class Site:
    """A folder with everything in it. `cli(...)` runs one command to its end."""

    def __init__(self, folder: Path, config: bool = True) -> None:
        """`config`: whether to write one, and its handler; else they are there."""
        self.folder = folder
        self.config = folder / "preforkd.toml"
        if config:
            self.config.write_text(_CONFIG)
            (folder / "site_handler.py").write_text(_HANDLER)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFORKD")},
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        """The command line for `preforkd` here."""
        return [sys.executable, "-m", "supervisor", "--config", str(self.config), *arguments]

    def cli(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed; its output."""
        done = self.cli(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The daemon's status object; what `status --json` prints, without the cost of a new interpreter."""
        with ControlClient(self.folder / "run") as client:
            return client.ask("status")

    def counters(self) -> dict[str, int]:
        """The pool's counters."""
        counters: dict[str, int] = self.status()["pools"]["mail"]["counters"]
        return counters

    def wait_for_counter(self, name: str, value: int) -> None:
        """Wait until the pool `mail` has counted so far."""
        self.wait_for_pool_counter("mail", name, value)

    def wait_for_pool_counter(self, pool: str, name: str, value: int) -> None:
        """Wait until this pool has counted so far."""
        eventually(lambda: self.status()["pools"][pool]["counters"][name] == value, f"{value} {name}")

    def wait_for_state(self, state: str) -> None:
        """Wait until the daemon calls itself so."""
        eventually(lambda: self.status()["state"] == state, f"the daemon is {state}")

    def wait_until_running(self, message_id: str) -> None:
        """Wait until a worker shows this message in the status."""
        eventually(
            lambda: message_id in [w["message_id"] for w in self.status()["pools"]["mail"]["workers"]],
            f"{message_id} is being run",
        )

    @property
    def log_path(self) -> Path:
        """The log of a started daemon, with all that was logged before."""
        holder = find_holder(self.folder / "run" / PID_FILE)
        settle_log(holder.pid if holder is not None else None)
        return self.folder / "state" / "preforkd.log"

    def runs(self) -> list[str]:
        """What the handler has noted: `id round attempt` for each run."""
        notes = self.folder / "runs.txt"
        return notes.read_text().splitlines() if notes.exists() else []

    def exits(self) -> list[dict[str, Any]]:
        """The exit records of workers."""
        records = map(json.loads, self.ok("exits", "--json", "-n", "0").splitlines())
        return [record for record in records if record["kind"] == "worker"]

    def processes(self) -> list[int]:
        """The pids of everything that was started here and still runs."""
        entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [int(entry.name) for entry in entries if any(self.folder in file.parents for file in _open_files(entry))]

    def end(self) -> None:
        """End whatever is left, and wait until it is gone."""

        def all_gone() -> bool:
            left = self.processes()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        eventually(all_gone, "the processes of the test have ended")


@contextmanager
def make_site(folder: Path, config: bool = True) -> Iterator[Site]:
    """A site; nothing of it runs any more at the end, also when the test has failed (then its log is printed)."""
    site = Site(folder, config)
    failed = True
    try:
        yield site
        failed = False
    finally:
        site.end()
        log = folder / "state" / "preforkd.log"
        if failed and log.exists():
            sys.stderr.write(log.read_text())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site without a daemon."""
    with make_site(tmp_path) as site:
        yield site


@pytest.fixture
def running(site: Site) -> Site:
    """A site whose daemon runs."""
    site.ok("start")
    return site


def _open_files(process: Path) -> Iterator[Path]:
    """What a process has open; nothing for one that has ended meanwhile."""
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                yield descriptor.readlink()
