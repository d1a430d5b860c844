"""Development mode of Python with all warnings as errors finds nothing, in no process, through a whole life.

Every file and socket is closed by the process that opened it, nothing deprecated is called, and no fork is made beside
a thread (Python 3.12 warns of that).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site
from tests.support.waiting import eventually

FOUND = re.compile(r"\b[A-Z]\w*Warning\b|Exception ignored")
"""How Python shows a warning, as it is or as an error, and an error that a finalizer cannot raise."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        site.environment |= {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
        yield site


def run(site: Site, *words: str, stdin: str = "") -> None:
    """A command that succeeds and shows no warning."""
    done = site.cli(*words, stdin=stdin)
    assert not FOUND.search(done.stdout + done.stderr), f"{words}: {done.stdout}{done.stderr}"
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def worker_pid(site: Site) -> int:
    """The pid of the only worker, 0 while there is none."""
    workers = site.status()["pools"]["mail"]["workers"]
    return int(workers[0]["pid"] or 0) if workers else 0


def test_no_warning_is_given_by_the_daemon_and_its_commands(site: Site) -> None:
    run(site, "check")
    run(site, "start")
    run(site, "publish", "mail", stdin="hello\n")
    run(site, "publish", "mail", stdin="fail\n")
    site.wait_for_counter("done", 1)
    site.wait_for_counter("dead", 1)
    run(site, "reload")
    former = worker_pid(site)
    os.kill(former, signal.SIGKILL)
    eventually(lambda: worker_pid(site) not in (0, former), "another worker is there")
    run(site, "publish", "mail", stdin="hello again\n")
    eventually(lambda: len(site.runs()) == 3, "the message was run")
    run(site, "check")
    for words in ("status", "exits", "why mail", "top --once", "dead list mail", "dead retry mail --all"):
        run(site, *words.split())
    run(site, "restart")
    run(site, "stop")

    shown = site.log_path.read_text()
    assert "daemon.stopped" in shown
    assert not FOUND.search(shown), shown


FORKS = """
import multiprocessing, subprocess, sys
from pathlib import Path

def run(message):
    child = multiprocessing.get_context("fork").Process(target=sys.exit, args=(7,))
    child.start()
    child.join()
    program = subprocess.run(["sh", "-c", "exit 8"])
    with (Path(__file__).parent / "runs.txt").open("a") as runs:
        runs.write(f"{child.exitcode} {program.returncode}\\n")
"""


def test_a_handler_forks_without_a_warning(site: Site) -> None:
    """Its worker has no thread of preforkd's: Python 3.12 would warn of a fork beside it."""
    (site.folder / "site_handler.py").write_text(FORKS)
    run(site, "start")
    run(site, "publish", "mail", stdin="hello\n")
    eventually(lambda: bool(site.runs()), "the message was run")
    run(site, "stop")

    assert site.runs() == ["7 8"]
    assert not FOUND.search(site.log_path.read_text())
