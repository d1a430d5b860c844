"""How consumer, web and hooks begin and end, whatever the master that starts them is like."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

import supervisor
from supervisor.config.schema import BrokerConfig, HooksConfig, LedgerConfig, LogConfig, PoolConfig, WebConfig
from supervisor.link.channel import Channel, send_with_descriptors
from supervisor.link.frames import VERSION, Build, Frame, Refused, StartConsumer, StartSidecar
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

Start = StartConsumer | StartSidecar
MakeStart = Callable[[Path, str, int], Start]
Run = Callable[..., "ChildRun"]


def start_consumer(directory: Path, version: str, master_pid: int) -> StartConsumer:
    pool, broker, places = PoolConfig("email", "email", "m:f"), BrokerConfig(), [str(directory)] * 3
    return StartConsumer(version, pool, broker, LedgerConfig(), LogConfig(), *places, master_pid, [])


def start_sidecar(directory: Path, version: str, master_pid: int) -> StartSidecar:
    settings, places = (WebConfig(), HooksConfig(), BrokerConfig(), LogConfig()), [str(directory)] * 2
    return StartSidecar(version, *settings, *places, "", master_pid)


CHILDREN = {
    "supervisor.consumer": (start_consumer, 1, "consumer email"),
    "supervisor.web": (start_sidecar, 0, "web"),
    "supervisor.hooks": (start_sidecar, 0, "hooks"),
}
"""Module → its first frame, how many descriptors come with it, its title."""

every_child = pytest.mark.parametrize("module", CHILDREN)

FAULTY = """
import os
from supervisor.link.child import live, settle_in
from supervisor.link.frames import SidecarOrder, StartSidecar

def fail(start, master, descriptors):
    settle_in(start, "faulty")
    raise ValueError("a bug of ours")

live(StartSidecar, 0, SidecarOrder, fail)
"""


class ChildRun:
    """One child and the master's end of its channel."""

    def __init__(self, *program: str) -> None:
        self.sock, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *program, str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )

    def send(self, first: Start, count: int) -> None:
        """The first frame, with so many descriptors."""
        with Path(os.devnull).open() as null:
            send_with_descriptors(self.sock, first, [null.fileno()] * count)

    def said(self) -> Frame:
        """The one frame that it sends."""
        channel: Channel[Frame] = Channel(self.sock, Build | Refused)
        (said,) = eventually(channel.receive, "it has said why")
        return said

    def end(self) -> tuple[int, str]:
        """Its exit status and what it has printed."""
        _, printed = self._process.communicate(timeout=30)
        return self._process.returncode, printed

    def close(self) -> None:
        """End it."""
        self.sock.close()
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def run() -> Iterator[Run]:
    with ExitStack() as stack:
        yield lambda *program: stack.enter_context(closing(ChildRun(*program)))


@every_child
def test_a_master_of_another_build_is_told_what_is_on_disk_now(module: str, run: Run, tmp_path: Path) -> None:
    make_start, count, _ = CHILDREN[module]
    child = run("-m", module)
    child.send(make_start(tmp_path, "0123abcd", os.getpid()), count)

    assert child.said() == Build(VERSION, supervisor.__version__)
    assert child.end() == (os.EX_CONFIG, "")


@every_child
def test_a_first_frame_of_which_only_the_version_can_be_read_is_answered_too(module: str, run: Run) -> None:
    _, count, _ = CHILDREN[module]
    child = run("-m", module)
    data = msgspec.msgpack.encode(["StartAnother", "0123abcd", {"all": ["else", 1.5]}])
    with Path(os.devnull).open() as null:
        socket.send_fds(child.sock, [len(data).to_bytes(4, "little") + data], [null.fileno()] * count)

    assert child.said() == Build(VERSION, supervisor.__version__)
    assert child.end() == (os.EX_CONFIG, "")


@every_child
def test_a_child_whose_master_is_another_process_leaves_in_silence(module: str, run: Run, tmp_path: Path) -> None:
    """Its master has died, and another process adopted it, before it could ask to die with its master."""
    make_start, count, _ = CHILDREN[module]
    child = run("-m", module)
    child.send(make_start(tmp_path, VERSION, 1), count)

    assert child.end() == (os.EX_OK, "")


@every_child
def test_a_child_whose_master_dies_before_it_was_told_anything_leaves_in_silence(module: str, run: Run) -> None:
    child = run("-m", module)
    child.sock.close()

    assert child.end() == (os.EX_OK, "")


def test_a_bug_of_ours_is_logged_with_its_stack_and_has_a_status_of_its_own(run: Run, tmp_path: Path) -> None:
    child = run("-c", FAULTY)
    child.send(start_sidecar(tmp_path, VERSION, os.getpid()), 0)

    status, printed = child.end()
    assert status == os.EX_SOFTWARE
    assert "ValueError: a bug of ours" in printed
    assert '"process":"faulty"' in printed.replace('": "', '":"')
