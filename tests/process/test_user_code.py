"""What user code does to its process is not the forkserver's fault to die of, nor the worker's, wherever it does it.

Each deed of `tests/support/user_code.py` at import, in `init`, in a run, in a thread that outlives its run: afterwards
the next message is done at its first attempt, the log goes on, the worker leaves when it is asked to. Or the boot fails
by name.
"""

from __future__ import annotations

import os
import signal

import pytest

from supervisor.link.frames import BootFailed, Imported, Run
from supervisor.messages.message import Properties
from supervisor.scoreboard.words import Intent, LeavingReason, OutcomeKind
from tests.support.descriptors import readable
from tests.support.pools import Link, MakeMaster, run_frame
from tests.support.user_code import DEEDS

NEEDS_ROOT = {"another effective user", "another user for good", "another root directory"}

SPOILING = {
    "another user for good": "user and groups",
    "another root directory": "the root directory",
    "all other descriptors closed": "the lock of its slot, its wake-up pipe, the file for its stacks",
    "all other descriptors closed and used": "the lock of its slot, its wake-up pipe, the file for its stacks",
}
"""Changes that cannot be taken back: the worker is replaced, and the log says what was changed."""

FAILING = {"a profile function that raises": OutcomeKind.FAILED}
"""What raises in the handler's own frames."""

BROKEN_BOOTS = {
    "no new descriptors": "the worker cannot reach its consumer: Too many open files",
    "a trace function that raises": "patched by user code",
    "a profile function that raises": "patched by user code",
    **{deed: what.partition(",")[0] for deed, what in SPOILING.items()},
}
"""In `init`: what is set there counts for good, so the worker cannot live with it, or `init` itself has raised."""

REFUSED_AT_IMPORT = {
    "all other descriptors closed": "closed descriptors that are not its own",
    "all other descriptors closed and used": "closed descriptors that are not its own",
    "another root directory": "importing 'user_code:run' changed the root directory",
    "no new descriptors": "after importing 'user_code:run' this failed: OSError: [Errno 24] Too many open files",
    "SIGTERM taken by asyncio": "importing 'user_code:run' left sockets open",
    "a trace function that raises": "importing it raised RuntimeError: patched by user code",
    "a profile function that raises": "importing it raised RuntimeError: patched by user code",
    "modules and path gone": "importing it raised KeyError: 'user_code'",
}

NOT_HERE = {
    "thread": {"little depth"},
    "init": {"another effective user", "another user for good", "no file may grow"},
    "import": {*NEEDS_ROOT - REFUSED_AT_IMPORT.keys(), "no file may grow"},
}
"""Whether another user may open the slots and connect is decided by the daemon's own user and rights; a limit that is
set there for good holds for the log as well. A thread that leaves our own code no depth in the middle of it is out of
reach."""


def deeds(where: str) -> list[str]:
    left_out = NOT_HERE.get(where, set()) | (set() if os.geteuid() == 0 else NEEDS_ROOT)
    return [deed for deed in DEEDS if deed not in left_out]


class Bench:
    """A pool whose workers do deeds, one worker after another."""

    def __init__(self, make_master: MakeMaster, init: bool = False, **environment: str) -> None:
        settings = {"init": "user_code:init"} if init else {}
        self.master = make_master(
            handler="user_code:run", timeout_header="x-limit", environment=environment, **settings
        )
        self.generation = 0

    def worker(self) -> tuple[int, Link]:
        self.generation += 1
        slot = self.master.slot()
        if cells := slot.cells(0):  # room in the ring
            slot.advance_tail(cells[-1].index + 1)
        return self.master.worker(0, self.generation)

    def goes_on(self, link: Link) -> None:
        """Two more messages are done, and what the worker has to say about them is in the log."""
        odd = {"properties": Properties(headers={"x-limit": "soon"}), "body": b":"}
        said = self.log().count("header x-limit")
        for number in (2, 3):
            outcome = link.outcome_of(run_frame(number, "", facts=odd))
            assert (outcome.kind, outcome.reason) == (OutcomeKind.DONE, "")
        assert self.log().count("header x-limit") == said + 2

    def leaves(self, pid: int) -> tuple[int, LeavingReason | None]:
        """Ask it to leave as the master does; its status and its reason."""
        self.master.slot().write_intent(Intent.STOP, self.generation)
        os.kill(pid, signal.SIGTERM)
        return self.left(pid)

    def left(self, pid: int) -> tuple[int, LeavingReason | None]:
        return self.master.status(pid), self.master.leaving(self.generation)

    def forget_connections(self) -> None:
        """A worker that has lost its link greets once more before it leaves."""
        while readable(self.master.listener):
            self.master.listener.accept()[0].close()

    def log(self) -> str:
        return self.master.errors.read_text()

    def users_file(self) -> str:
        path = self.master.home / "users-file"
        return path.read_text() if path.exists() else ""


def order(number: int, body: str) -> Run:
    return run_frame(number, "", facts={"body": body.encode()})


def test_after_a_run_of_user_code_the_next_messages_are_done(make_master: MakeMaster) -> None:
    bench = Bench(make_master)
    bench.master.boot()
    for deed in deeds("run"):
        pid, link = bench.worker()
        if deed in SPOILING:
            link.run(order(1, f"run:{deed}"))
            assert bench.left(pid) == (75, LeavingReason.SPOILED), deed
            bench.forget_connections()
            assert f"user code has changed {SPOILING[deed]}" in bench.log()
            assert [cell.kind for cell in bench.master.slot().cells(0)][-1] == OutcomeKind.DONE, deed
        else:
            assert link.outcome_of(order(1, f"run:{deed}")).kind == FAILING.get(deed, OutcomeKind.DONE), deed
            bench.goes_on(link)
            assert bench.leaves(pid) == (0, LeavingReason.STOP), deed
    assert bench.users_file() == ""


def test_after_a_thread_that_outlives_its_run_the_next_messages_are_done(make_master: MakeMaster) -> None:
    bench = Bench(make_master)
    bench.master.boot()
    for deed in [deed for deed in deeds("thread") if deed not in SPOILING]:
        pid, link = bench.worker()
        assert link.outcome_of(order(1, f"thread:{deed}")).kind == OutcomeKind.DONE, deed
        assert link.outcome_of(order(1, "join:")).kind == OutcomeKind.DONE, deed
        bench.goes_on(link)
        assert bench.leaves(pid) == (0, LeavingReason.STOP), deed
    assert bench.users_file() == ""


def test_after_init_messages_are_done_or_the_boot_has_failed_by_name(make_master: MakeMaster) -> None:
    bench = Bench(make_master, init=True)
    bench.master.boot()
    for deed in deeds("init"):
        (bench.master.home / "deed").write_text(deed)
        if deed in BROKEN_BOOTS:
            bench.generation += 1
            pid = bench.master.fork(0, bench.generation)
            assert bench.left(pid) == (78, LeavingReason.BOOT_FAILED), deed
            assert BROKEN_BOOTS[deed] in bench.log(), deed
            continue
        pid, link = bench.worker()
        bench.goes_on(link)
        assert bench.leaves(pid) == (0, LeavingReason.STOP), deed
    assert bench.users_file() == ""


@pytest.mark.parametrize("deed", deeds("import"))
def test_after_an_import_messages_are_done_or_the_boot_has_failed_by_name(make_master: MakeMaster, deed: str) -> None:
    bench = Bench(make_master, DEED=deed)
    inbox = bench.master.start_forkserver()
    if deed not in REFUSED_AT_IMPORT:
        inbox.expect(Imported)
        pid, link = bench.worker()
        bench.goes_on(link)
        assert bench.leaves(pid) == (0, LeavingReason.STOP)
        assert bench.master.quit() == 0
    else:
        assert bench.master.forkserver is not None and bench.master.forkserver.wait(20) == 78
        inbox.poll()
        said = [frame.reason for frame in inbox.frames if isinstance(frame, BootFailed)]
        assert REFUSED_AT_IMPORT[deed] in (said[0] if said else bench.log())
    assert bench.users_file() == ""
