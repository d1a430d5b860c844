"""A pool without master and consumer: the test plays both, with real processes, sockets and slot files.

`Master` is the little of a master that forkservers and workers notice: the parent, a subreaper, that gives orders and
waits for its children. `Consumer` listens on the link socket; `Link` is its end of one worker's connection.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from supervisor.config.schema import LogConfig, PoolConfig
from supervisor.link.channel import Channel, ChannelClosed, send_with_descriptors
from supervisor.link.frames import (
    VERSION,
    Fork,
    Forked,
    ForkReport,
    Frame,
    Hello,
    Imported,
    Outcome,
    Quit,
    Run,
    RunId,
    StartForkserver,
    Welcome,
    WorkerFrame,
)
from supervisor.messages.message import Properties
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import LeavingReason
from supervisor.system import posix
from tests.support.descriptors import readable
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
F = TypeVar("F", bound=Frame)


@contextmanager
def subreaper() -> Iterator[None]:
    """Orphans of this process's children become its own children, as they become the master's."""
    posix.become_subreaper()
    try:
        yield
    finally:
        posix._prctl(posix._PR_SET_CHILD_SUBREAPER, 0)


class Inbox:
    """Frames that arrive on a channel, taken by type in the order of arrival."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel
        self.frames: list[Frame] = []
        self.closed = False

    def send(self, *frames: Frame) -> None:
        self.channel.send(*frames)
        eventually(self.channel.flush, f"{frames} are written")

    def expect(self, kind: type[F], timeout_s: float = 20.0) -> F:
        """The next frame, which must be of this kind."""
        eventually(lambda: self.poll() or self.closed, f"a {kind.__name__} arrives", timeout_s)
        assert self.frames, f"the channel was closed instead of a {kind.__name__}"
        frame = self.frames.pop(0)
        assert isinstance(frame, kind), frame
        return frame

    def poll(self) -> bool:
        """Whether frames wait to be taken."""
        if not self.closed and readable(self.channel):
            try:
                self.frames += self.channel.receive()
            except ChannelClosed:
                self.closed = True
        return bool(self.frames)

    def is_closed(self) -> bool:
        self.poll()
        return self.closed

    def close(self) -> None:
        self.channel.close()
        self.closed = True


class Link(Inbox):
    """The consumer's end of one worker's connection; `hello` is what it opened with."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(Channel(sock, WorkerFrame))
        self.hello = self.expect(Hello)
        with suppress(ChannelClosed):  # it has left already; what it said can be read still
            self.send(Welcome())

    def run(self, *runs: Run) -> None:
        self.send(*runs)

    def outcome_of(self, run: Run) -> Outcome:
        """Send it, and take its outcome."""
        self.send(run)
        outcome = self.expect(Outcome)
        assert outcome.run == run.run
        return outcome


def run_frame(number: int, do: str, **order: Any) -> Run:
    """A Run whose handler does what `sample_handlers.run` finds in the body. `facts`: a dict of further Run fields."""
    facts: dict[str, Any] = order.pop("facts", {})
    fields: dict[str, Any] = {
        "run": RunId(number.to_bytes(24, "big"), 1, 1),
        "id": f"m{number}",
        "properties": Properties(),
        "body": json.dumps({"do": do, **order}).encode(),
        "exchange": "",
        "routing_key": "sample",
        "redelivered": False,
        "maybe_duplicate": False,
    }
    return Run(**{**fields, **facts})


def spawn_forkserver(start: StartForkserver, notification: int, errors: Path) -> tuple[subprocess.Popen[bytes], Inbox]:
    """Start a forkserver as the master does; `errors`: where its stdout and stderr go."""
    ours, theirs = socket.socketpair()
    with errors.open("ab") as out:
        forkserver = subprocess.Popen(
            [sys.executable, "-P", "-m", "supervisor.forkserver", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
        )
    theirs.close()
    send_with_descriptors(ours, start, [notification])
    return forkserver, Inbox(Channel(ours, ForkReport))


class Master:
    """One pool's state directory, its forkserver, its workers. `pool`: changes to the sample pool's configuration."""

    def __init__(self, **pool: Any) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="preforkd-"))
        self.pool_dir = self.home / "pool"
        (self.pool_dir / "slots").mkdir(parents=True)
        self.notes = self.home / "notes"
        self.errors = self.home / "stderr"
        environment = {"NOTES": str(self.notes), **pool.pop("environment", {})}
        sample = {
            "name": "sample",
            "queue": "sample",
            "handler": "sample_handlers:run",
            "path": (str(Path(__file__).parent), str(self.home)),
        }
        self.pool = PoolConfig(**{**sample, "environment": environment, **pool})
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.link_path))
        self.listener.listen(64)
        self.notification, self.readiness_write = os.pipe()
        self.forkserver: subprocess.Popen[bytes] | None = None
        self.inbox: Inbox
        self.workers: set[int] = set()
        self.links: list[Link] = []
        self.slots: list[Slot] = []

    @property
    def link_path(self) -> Path:
        return self.home / "link.sock"

    def start_frame(self, version: str = VERSION) -> StartForkserver:
        """What this master tells its forkserver."""
        return StartForkserver(
            version, self.pool, LogConfig(), str(self.pool_dir), str(self.link_path), master_pid=os.getpid()
        )

    # ---- the forkserver -------------------------------------------------------------------------------------------

    def start_forkserver(self, version: str = VERSION) -> Inbox:
        start = self.start_frame(version)
        self.forkserver, self.inbox = spawn_forkserver(start, self.readiness_write, self.errors)
        return self.inbox

    def boot(self) -> None:
        """Start the forkserver and wait until it can fork."""
        self.start_forkserver().expect(Imported)

    def fork(self, slot: int = 0, generation: int = 1) -> int:
        """Order a worker; its pid."""
        self.slot(slot)  # made by the master, always
        self.inbox.send(Fork(slot, generation))
        forked = self.inbox.expect(Forked)
        assert (forked.slot, forked.generation) == (slot, generation)
        self.workers.add(forked.pid)
        return forked.pid

    def quit(self) -> int:
        """Tell the forkserver to leave; its status."""
        self.inbox.send(Quit())
        assert self.forkserver is not None
        return self.forkserver.wait(20)

    # ---- workers --------------------------------------------------------------------------------------------------

    def accept(self) -> Link:
        """The next connection of a worker, after its Hello."""
        assert readable(self.listener, within_s=20), f"no worker connects; stderr: {self.errors.read_text()}"
        self.links.append(Link(self.listener.accept()[0]))
        return self.links[-1]

    def rung(self) -> tuple[int, int]:
        """The next (slot, generation) that the readiness pipe tells."""
        assert readable(self.notification, within_s=20), "the readiness pipe stayed silent"
        slot, generation = struct.unpack("<II", os.read(self.notification, 8))
        return slot, generation

    def worker(self, slot: int = 0, generation: int = 1) -> tuple[int, Link]:
        """A worker, forked, connected and ready."""
        pid = self.fork(slot, generation)
        link = self.accept()
        assert self.rung() == (slot, generation)
        return pid, link

    def slot(self, number: int = 0) -> Slot:
        """The slot as other processes see it; closed with the master."""
        self.slots.append(Slot(self.pool_dir / "slots" / f"{number}.slot"))
        return self.slots[-1]

    def stacks(self, number: int = 0) -> str:
        return (self.pool_dir / "stacks" / f"{number}.txt").read_text()

    def leaving(self, generation: int = 1) -> LeavingReason | None:
        return self.slot().leaving(generation)

    def status(self, pid: int) -> int:
        """Wait for our child; its exit status, or the negative number of the signal that ended it."""

        ended: list[int] = []

        def reaped() -> bool:
            found, status = os.waitpid(pid, os.WNOHANG)
            ended.extend([status] if found else [])
            return bool(found)

        eventually(reaped, f"{pid} ends; stderr: {self.errors.read_text()}")
        self.workers.discard(pid)
        return os.waitstatus_to_exitcode(ended[0])

    # ---- what handlers leave --------------------------------------------------------------------------------------

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def note(self, text: str) -> str:
        """Wait for a note that begins like this."""

        def found() -> str | None:
            return next((line for line in self.noted() if line.startswith(text)), None)

        line = eventually(found, f"a handler notes {text!r}")
        assert line is not None
        return line

    def gate(self, name: str = "gate") -> Path:
        """A FIFO that a handler waits at."""
        path = self.home / name
        os.mkfifo(path)
        return path

    @staticmethod
    def open_gate(gate: Path) -> None:
        """Let the handler that waits there go on."""
        eventually(lambda: _try_to_open(gate), f"a handler waits at {gate}")

    # ---- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave nothing behind, whatever has failed."""
        if self.forkserver is not None:
            self.forkserver.kill()
            self.forkserver.wait()
            self.inbox.close()
        for pid in self.workers:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        for link in self.links:
            link.close()
        for slot in self.slots:
            slot.close()
        for descriptor in (self.notification, self.readiness_write):
            os.close(descriptor)
        self.listener.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _try_to_open(gate: Path) -> bool:
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


MakeMaster = Callable[..., Master]


@pytest.fixture
def make_master() -> Iterator[MakeMaster]:
    """Makes masters (`make_master(timeout_s=1.0)`), and ends all that they started, also when the test fails."""
    made: list[Master] = []

    def make(**pool: Any) -> Master:
        made.append(Master(**pool))
        return made[-1]

    with subreaper():
        try:
            yield make
        finally:
            for master in made:
                master.close()
