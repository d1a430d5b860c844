"""Slot files and boards that are cut short, overwritten or removed while they are in use.

PREFORKD_SOAK=<any number> does it in all ways.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.scoreboard.layout import FILE_BYTES, RING
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 3\nretry_delays = ["100ms"]\n'
SEED = 7


def slot_path(under_test: Daemon, number: int = 0) -> Path:
    return under_test.state_dir / f"pools/email/slots/{number}.slot"


def scribble(path: Path, start: int, end: int) -> None:
    """Overwrite a part of a file with bytes that mean nothing."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes((SEED * position + 1) % 251 for position in range(end - start)))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "cut in its ring": lambda path: os.truncate(path, RING + 512),
    "cut in its words": lambda path: os.truncate(path, 130),
    "grown": lambda path: os.truncate(path, FILE_BYTES + 1),
    "overwritten": lambda path: scribble(path, 0, FILE_BYTES),
    "with words of chance": lambda path: scribble(path, 64, 512),
    "without its identity": lambda path: scribble(path, 512, 1024),
    "without a running mark that can be read": lambda path: scribble(path, 1024, 2048),
    "of zeros": lambda path: path.write_bytes(bytes(FILE_BYTES)),
    "removed": lambda path: path.unlink(),
}


TRIED = list(DAMAGES) if os.environ.get("PREFORKD_SOAK") else ["emptied", "cut in its ring", "with words of chance"]


@pytest.mark.parametrize("damage", TRIED)
def test_a_slot_that_is_damaged_while_its_worker_runs_costs_that_worker_alone(tmp_path: Path, damage: str) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="running")
        eventually(lambda: under_test.marked("begun"), "a message runs")
        assert under_test.process is not None
        master = under_test.process.pid
        DAMAGES[damage](slot_path(under_test))
        under_test.status()
        (under_test.marks / "go").touch()
        eventually(lambda: "running" in under_test.marked("done"), "its message is done, sooner or later")
        under_test.send("nothing")
        eventually(lambda: under_test.pool()["counters"]["done"] >= 2, "both are settled")
        assert under_test.status()["pid"] == master
        assert under_test.process.poll() is None
        causes = [record["cause"] for record in under_test.exits(kind="consumer")]
        assert causes == [], "the consumer never noticed"


def test_a_worker_whose_slot_is_damaged_is_ended_although_it_never_looks(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("ignore_everything", message_id="hung")
        eventually(lambda: under_test.marked("begun"), "a message runs")
        os.truncate(slot_path(under_test), 0)
        record = under_test.exit(kind="worker", requested_by="damaged slot")
        assert record["signal"] == "SIGKILL"
        assert under_test.events("slot.damaged", slot=0)
        eventually(lambda: len(under_test.marked("begun")) == 2, "its message runs again, in a new slot")
        assert under_test.marked("begun")[1].split()[1] == "2", "declared"


def test_a_daemon_starts_on_the_damaged_slot_of_a_worker_that_lives_on(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("until", "go", message_id="running")
        eventually(lambda: under_test.marked("begun"), "a message runs")
        worker = under_test.worker()["pid"]
        under_test.kill()
        os.truncate(slot_path(under_test), 0)
        under_test.start()
        assert worker not in under_test.processes()
        (under_test.marks / "go").touch()
        eventually(lambda: under_test.marked("done") == ["running"], "its message is done by another one")


def test_a_stray_file_among_the_slots_is_ignored_and_named_once(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE, start=False) as under_test:
        slots = slot_path(under_test).parent
        slots.mkdir(parents=True)
        for name in ("old.slot", "00.slot", "-1.slot", "1.slot.damaged"):
            (slots / name).write_bytes(b"something else")
        under_test.start()
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the daemon works")
        assert under_test.exits() == []
        told = [line for line in under_test.log_path.read_text().splitlines() if "not slots of preforkd" in line]
        assert len(told) == 1
        assert all(name in told[0] for name in ("old.slot", "00.slot", "-1.slot"))
        assert (slots / "old.slot").read_bytes() == b"something else"


@pytest.mark.parametrize(
    "damage", ["emptied", "overwritten", "removed"] if os.environ.get("PREFORKD_SOAK") else ["removed"]
)
def test_a_damaged_board_ends_no_process(tmp_path: Path, damage: str) -> None:
    with daemon(tmp_path, ONE, start=False) as under_test:
        under_test.start(stale_s=10.0)
        DAMAGES[damage](under_test.state_dir / "pools/email/board")
        for kind in ("consumer", "forkserver"):
            former = under_test.pool()[kind]["pid"]
            os.kill(former, signal.SIGKILL)
            under_test.exit(pid=former)
            eventually(lambda k=kind: under_test.pool()[k]["state"] in ("ready", "consuming"), "it is back")  # type: ignore[misc]
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "the daemon works")
        assert under_test.exits(cause="timeout") == []
