"""The environments of the contestants, and the start and end of the peers' programs.

The peers share one; preforkd has another, as its users have it: this checkout, without extras and without what its
developers use, some of which (OpenTelemetry) a worker would load.

A peer runs in a session of its own and is ended by its process group; no other process is ever signalled.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
PEERS = ROOT / ".venv-peers"
PYTHON = PEERS / "bin/python"
REQUIREMENTS = ROOT / "benchmarks/requirements-peers.txt"

PLAIN = ROOT / "build/bench-preforkd"
PREFORKD = (str(PLAIN / "bin/preforkd"),)

_STOP_S = 10.0


def install_preforkd() -> None:
    """Install this checkout again, in an environment of its own."""
    if not (PLAIN / "bin/python").exists():
        venv.create(PLAIN, clear=True, with_pip=True)
    pip = [str(PLAIN / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = ["--constraint", str(ROOT / "requirements-dev.txt"), str(ROOT)]
    shutil.rmtree(ROOT / "build/lib", ignore_errors=True)  # modules that are no more
    for options in ([], ["--force-reinstall", "--no-deps"]):  # what it needs; then itself, whose version is the same
        subprocess.run([*pip, *options, *pinned], check=True, timeout=600, stdout=sys.stderr)


def make_environment() -> None:
    """Build the peers' environment where it is missing; install what requirements-peers.txt has gained since."""
    PEERS.mkdir(exist_ok=True)
    with (ROOT / "benchmarks").joinpath("requirements-peers.txt").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = PEERS / "complete"
        if complete.exists() and complete.stat().st_mtime >= REQUIREMENTS.stat().st_mtime:
            return
        if not PYTHON.exists():
            venv.create(PEERS, clear=True, with_pip=True)
        command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
        subprocess.run(command, check=True, timeout=600, stdout=sys.stderr)
        complete.touch()


def versions() -> dict[str, str]:
    """What is pinned for the peers: name → version."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return {name: number for name, _, number in (line.partition("==") for line in lines if line)}


def environment(**more: str) -> dict[str, str]:
    """For a peer's process: ours, with the apps importable and nothing of preforkd."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PYTHONPATH": str(APPS), "PYTHONDONTWRITEBYTECODE": "1", **more}


class Peer:
    """A program that was started, with all the processes of its session. `log`: where its output goes."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path | None = None) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd or log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._log = log

    @property
    def pid(self) -> int:
        """Of the first process, which leads the session and its process group."""
        return self.process.pid

    def must_run(self) -> None:
        """Fail, with the end of its output, where it has ended by itself."""
        if self.process.poll() is not None:
            output = self._log.read_text(errors="replace")[-2000:]
            raise AssertionError(f"{self.process.args!r} ended with status {self.process.returncode}:\n{output}")

    def stop(self, signum: int = signal.SIGTERM, timeout_s: float = _STOP_S) -> None:
        """Ask it to end; after that long kill its whole process group. Whatever of the group is left is killed, too."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_s)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path | None = None) -> Iterator[Peer]:
    """A program that is gone at the end, with all of its process group."""
    peer = Peer(command, env, log, cwd)
    try:
        yield peer
    finally:
        peer.stop()
