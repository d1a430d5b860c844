"""What a forkserver refuses to fork from, and how it says so: BootFailed with a text for users, then status 78."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor
from supervisor.link.frames import VERSION, BootFailed, Build, Imported
from supervisor.scoreboard.board import FORKSERVER, Board
from tests.support.pools import ROOT, MakeMaster, run_frame
from tests.support.waiting import eventually

REFUSED = {
    "no such module": ("nowhere.at_all:run", "", "there is no module 'nowhere' (looked in: "),
    "a module that misses another": (
        "broken:run",
        "import missing_dependency",
        "raised ModuleNotFoundError: No module",
    ),
    "no such function": ("broken:sent", "def send(message): pass", "no 'sent'; did you mean 'send'?"),
    "a syntax error": ("broken:run", "def run(:", "importing it raised SyntaxError"),
    "an exception": ("broken:run", "raise OSError('no config')", "importing it raised OSError: no config"),
    "an interrupt": ("broken:run", "raise KeyboardInterrupt", "importing it raised KeyboardInterrupt"),
    "exit": ("broken:run", "import sys; sys.exit(3)", "importing it called exit(3)"),
    "no function": ("broken:run", "run = 7", "is not a function but of type int"),
    "async": ("broken:run", "async def run(message): pass", "is an async or generator function"),
    "generator": ("broken:run", "def run(message): yield", "is an async or generator function"),
    "no parameter": ("broken:run", "def run(): pass", "cannot be called with one argument, the message: it takes ()"),
    "threads": (
        "broken:run",
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True, name='poller').start()\n"
        "def run(message): pass",
        "left threads running: poller; threads do not survive",
    ),
    "sockets": (
        "broken:run",
        "import socket\nkept = socket.socketpair()\ndef run(message): pass",
        "left sockets open: AF_UNIX to",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_forkserver_refuses_with_a_reason_and_leaves_with_78(make_master: MakeMaster, case: str) -> None:
    handler, source, reason = REFUSED[case]
    master = make_master(handler=handler)
    (master.home / "broken.py").write_text(source)
    inbox = master.start_forkserver()
    failed = inbox.expect(BootFailed)
    assert failed.reason.startswith(f"pools.sample.handler = {handler!r}: ") or "pools.sample: " in failed.reason
    assert reason in failed.reason
    assert master.forkserver is not None and master.forkserver.wait(20) == 78
    assert "Traceback" not in master.errors.read_text()


def test_a_failed_import_comes_with_its_stack(make_master: MakeMaster) -> None:
    master = make_master(handler="broken:run")
    (master.home / "broken.py").write_text("def deep():\n    raise OSError('no config')\n\ndeep()\n")
    assert "broken.py" in master.start_forkserver().expect(BootFailed).stack


def test_the_init_hook_is_checked_as_the_handler_is(make_master: MakeMaster) -> None:
    master = make_master(init="sample_handlers:inti")
    failed = master.start_forkserver().expect(BootFailed)
    assert failed.reason.startswith("pools.sample.init = 'sample_handlers:inti': ")
    assert "did you mean 'init'?" in failed.reason


def test_a_thread_that_ends_soon_after_the_import_is_no_offence(make_master: MakeMaster) -> None:
    master = make_master(handler="brief:run")
    (master.home / "brief.py").write_text(
        "import threading\nthreading.Timer(0.1, lambda: None).start()\ndef run(message): pass\n"
    )
    master.start_forkserver().expect(Imported)


def test_a_forkserver_of_another_build_refuses(make_master: MakeMaster) -> None:
    master = make_master()
    told = master.start_forkserver(version="0123abcd").expect(Build)
    assert told == Build(VERSION, supervisor.__version__)
    assert master.forkserver is not None
    assert master.forkserver.wait(20) == os.EX_CONFIG


def test_the_pools_path_and_environment_are_there_before_the_import(make_master: MakeMaster) -> None:
    master = make_master(handler="reads_environment:run", environment={"SITE": "blue"})
    (master.home / "reads_environment.py").write_text(
        "import os, sample_handlers\nassert os.environ['SITE'] == 'blue'\nrun = sample_handlers.run\n"
    )
    master.boot()
    _, link = master.worker()
    assert link.outcome_of(run_frame(1, "done")).kind == "done"


def test_a_method_of_a_class_can_be_the_handler(make_master: MakeMaster) -> None:
    master = make_master(handler="mailer:Mailer.send")
    (master.home / "mailer.py").write_text(
        "class Mailer:\n    @classmethod\n    def send(cls, message):\n        assert message.body\n"
    )
    master.boot()
    _, link = master.worker()
    assert link.outcome_of(run_frame(1, "done")).kind == "done"


def test_a_forkserver_shows_on_the_board_that_it_lives(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    board = Board(master.pool_dir / "board")
    first_s = eventually(lambda: board.beat_s(FORKSERVER), "a first beat")
    eventually(lambda: board.beat_s(FORKSERVER) > first_s, "another beat, without an order", timeout_s=10)


def test_a_forkserver_leaves_when_its_master_closes_the_channel(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    master.inbox.close()
    assert master.forkserver is not None and master.forkserver.wait(20) == 0


def test_a_forkserver_whose_master_is_gone_before_the_first_frame_leaves_quietly() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "supervisor.forkserver", "0"],
        stdin=_closed_socket(),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


def _closed_socket() -> int:
    ours, theirs = socket.socketpair()
    ours.close()
    return theirs.detach()


def test_the_stacks_of_a_forkserver_can_be_had(make_master: MakeMaster) -> None:
    master = make_master()
    master.boot()
    assert master.forkserver is not None
    os.kill(master.forkserver.pid, signal.SIGQUIT)
    report: Path = master.pool_dir / "stacks" / "forkserver.txt"
    eventually(lambda: "in turn" in report.read_text(), "SIGQUIT dumps the stack")
