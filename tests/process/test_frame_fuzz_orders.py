"""Whatever a master or a consumer says, its child ends with a reason, or goes on: frames in the other direction.

PREFORKD_SOAK=<number> sends to thirty times as many children, drawn from that number.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig, HooksConfig, LedgerConfig, LogConfig, PoolConfig, WebConfig
from supervisor.link import frames
from supervisor.link.channel import send_with_descriptors
from supervisor.link.frames import VERSION, Frame, RunId, StartConsumer, StartSidecar
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import LeavingReason, OutcomeKind
from tests.support.descriptors import readable
from tests.support.frame_fuzz import FrameFuzz, framed
from tests.support.pools import MakeMaster, Master, run_frame
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

SOAK = os.environ.get("PREFORKD_SOAK", "")
SEED = int(SOAK or 1)
LIVES = 150 if SOAK else 5
PAYLOADS = 30

STATUSES = {os.EX_OK, os.EX_SOFTWARE, os.EX_CONFIG}
"""Left as ordered, or with the master; not understood, or failed; refused."""


def start_consumer(folder: Path) -> StartConsumer:
    pool_dir = folder / "pools" / "mail"
    for name in ("slots", "stacks"):
        (pool_dir / name).mkdir(parents=True, exist_ok=True)
    places = (str(folder), str(pool_dir), str(folder / "mail.sock"))
    pool, broker, log = PoolConfig("mail", "mail", "m:f"), BrokerConfig(urls=("embedded:",)), LogConfig(format="json")
    return StartConsumer(VERSION, pool, broker, LedgerConfig(), log, *places, os.getpid(), [])


def start_sidecar(folder: Path) -> StartSidecar:
    web, hooks = WebConfig(listen="127.0.0.1:0"), HooksConfig(on_exit="true", on_hold="true", on_dead="true")
    places = (str(folder), str(folder), "")
    return StartSidecar(VERSION, web, hooks, BrokerConfig(), LogConfig(format="json"), *places, os.getpid())


CHILDREN: dict[str, tuple[Callable[[Path], Frame], int, Any]] = {
    "consumer": (start_consumer, 1, frames.ConsumerOrder),
    "hooks": (start_sidecar, 0, frames.SidecarOrder),
    "web": (start_sidecar, 0, frames.SidecarOrder),
}
"""Module → how its first frame is made, how many descriptors come with it, what it is told."""


class Told:
    """A child with its first frame, and the master's end of its channel."""

    def __init__(self, module: str, folder: Path) -> None:
        make, count, _ = CHILDREN[module]
        self.sock, theirs = socket.socketpair()
        self._errors = folder / "stderr"
        with theirs, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"supervisor.{module}", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        with socket.socket(socket.AF_UNIX) as listener:
            (folder / "mail.sock").unlink(missing_ok=True)
            listener.bind(str(folder / "mail.sock"))
            listener.listen()
            send_with_descriptors(self.sock, make(folder), [listener.fileno()] * count)
        self.sock.settimeout(20)

    def tell(self, payload: bytes) -> None:
        """Send this, as long as there is a process to hear it."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(payload)

    def end(self) -> tuple[int, str]:
        """Say Quit, hang up; its exit status and what it has written."""
        self.tell(framed(["Quit"]))
        self.sock.shutdown(socket.SHUT_WR)
        try:
            status = self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.sock.close()
        return status, self._errors.read_text()


@pytest.mark.parametrize("module", CHILDREN)
def test_whatever_the_master_says_a_child_ends_with_a_reason(module: str, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    with open_admin(BrokerConfig(urls=("embedded:",)), str(tmp_path)) as admin:
        admin.ensure_queue("mail")
        admin.publish([Publication("", "mail", Properties(message_id="m"), b"")], 1, lambda total: None)
    for life in range(LIVES):
        child = Told(module, tmp_path)
        payloads = list(FrameFuzz(CHILDREN[module][2], SEED * 49_999 + life).payloads(PAYLOADS))
        dice.shuffle(payloads)
        for payload in payloads:
            child.tell(payload)
        status, said = child.end()
        assert status in STATUSES, said
        assert status != os.EX_SOFTWARE or "cannot be understood" in said, said
        assert "\nTraceback" not in f"\n{said}", "nothing but whole lines of the log"
    with open_admin(BrokerConfig(urls=("embedded:",)), str(tmp_path)) as admin:
        depth = admin.depth("mail")
        assert depth is not None
        assert depth.ready == 1, "no order settles a message that was never run"


@pytest.mark.parametrize(
    ("module", "good"), [("consumer", ["Pause"]), ("hooks", ["Missed", {}]), ("web", ["Missed", {}])]
)
def test_nonsense_behind_an_order_is_noticed_although_nothing_follows(
    module: str, good: list[Any], tmp_path: Path
) -> None:
    child = Told(module, tmp_path)
    child.tell(framed(good) + framed(["Nonsense"]))
    try:
        assert child.process.wait(20) == os.EX_SOFTWARE
    finally:
        child.end()


def test_an_order_that_cannot_be_carried_out_is_named(tmp_path: Path) -> None:
    child = Told("hooks", tmp_path)
    child.tell(framed(["Happened", "exit", {"cause": b"no JSON"}]))
    status, said = child.end()
    assert status == os.EX_SOFTWARE
    assert "what the master sent cannot be understood: Happened cannot be handled: TypeError" in said


def test_whatever_the_master_says_a_forkserver_ends_with_a_reason(make_master: MakeMaster) -> None:
    for life in range(LIVES):
        master = make_master()
        master.boot()
        assert master.forkserver is not None
        sock = master.inbox.channel.socket
        sock.settimeout(20)
        for payload in FrameFuzz(frames.ForkOrder, SEED * 31_337 + life).payloads(PAYLOADS):
            with contextlib.suppress(ConnectionError):
                sock.sendall(payload)
        with contextlib.suppress(OSError):
            sock.sendall(framed(["Quit"]))
            sock.shutdown(socket.SHUT_WR)
        status, said = master.forkserver.wait(30), master.errors.read_text()
        assert status in STATUSES, said
        assert status != os.EX_SOFTWARE or "cannot be understood" in said, said
        assert "\nTraceback" not in f"\n{said}", "nothing but whole lines of the log"


def test_a_forkserver_that_does_not_understand_the_master_says_so(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    order = framed(["StartForkserver", *msgspec.to_builtins(master.start_frame())[1:]])  # ignored: it has begun
    master.inbox.channel.socket.sendall(order + framed(["Nonsense"]))
    assert master.forkserver is not None
    assert master.forkserver.wait(20) == os.EX_SOFTWARE
    assert "what the master sent cannot be understood" in master.errors.read_text()


LEFT = {(75, LeavingReason.FAILING)}
"""A `Recall` may tell it that its runs fail."""


def test_a_run_that_no_slot_can_hold_is_not_understood(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    _, link = master.worker()
    good = run_frame(1, "fail")
    for at, wrong in ((0, bytes(33)), (1, 2**32), (2, -1)):
        fields = [good.run.key, good.run.round, good.run.attempt]
        fields[at] = wrong
        run = msgspec.structs.replace(good, run=RunId(*fields))  # type: ignore[arg-type]
        link.channel.socket.sendall(framed(run))
        link = master.accept()
        assert link.hello.held == [], "nothing was run"


def has_left(master: Master, pid: int) -> bool:
    """Whether the worker has ended, rather than connected again."""
    ends = os.pidfd_open(pid)
    try:
        return ends in readable(ends, master.listener, within_s=20)
    finally:
        os.close(ends)


def free_cells(master: Master) -> None:
    """Take the outcomes of runs that the fuzz has begun, as a consumer does: a full ring stops the worker."""
    slot = master.slot()
    for cell in slot.cells(slot.tail):
        slot.advance_tail(cell.index + 1)


def test_whatever_a_consumer_says_its_worker_reports_only_what_it_has_run(make_master: MakeMaster) -> None:
    """It connects again after what it does not understand, or leaves because it was told to."""
    master = make_master()
    master.boot()
    generation = 1
    pid, link = master.worker()
    for life in range(LIVES * 3):
        sock = link.channel.socket
        sock.settimeout(20)
        payloads = FrameFuzz(frames.ConsumerFrame, SEED * 27_644_437 + life).payloads(PAYLOADS)
        for payload in payloads:
            with contextlib.suppress(ConnectionError):
                sock.sendall(payload)
        sock.close()
        if has_left(master, pid):
            assert (master.status(pid), master.leaving(generation)) in LEFT, master.stacks()
            generation += 1
            pid, link = master.worker(0, generation)
        else:
            link = master.accept()
        assert "Traceback" not in master.errors.read_text()
        free_cells(master)
    done = run_frame(99, "retry", delay=2.5, why="busy")
    link.send(done)
    heard: list[Frame] = []

    def is_over() -> bool:
        while link.poll():
            heard.append(link.frames.pop(0))
        return any(isinstance(frame, frames.Outcome) and frame.run == done.run for frame in heard)

    eventually(is_over, "the worker goes on")
    (outcome,) = [frame for frame in heard if isinstance(frame, frames.Outcome) and frame.run == done.run]
    assert outcome.kind == OutcomeKind.RETRY
