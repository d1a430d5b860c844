"""No process waits for the log's reader; lost lines are counted in the log, lines that are read are whole."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from supervisor.system.clock import monotonic_s
from tests.support.settled_log import relay_of
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

_TALKATIVE = """
import logging, os, subprocess

def run(message):
    logging.getLogger("mine").warning("%s", f"{message.id} " * 600)
    print(f"{message.id} " * 600)
    os.write(2, b"raw\\n")
    if message.text() == "program":
        subprocess.run(["echo", "of a program"], check=True)
"""
_PRINTS_IN_PRINTS = """
import signal

def run(message):
    former = signal.signal(signal.SIGVTALRM, lambda number, frame: print("in between"))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001, 0.001)
    for number in range(5000):
        print(number, "x" * 300)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, former)
"""
_MESSAGES = 1000  # some 10 MB: more than pipe and queue hold
_STOPS_WITHIN_S = 10.0

Ends = tuple[int, int]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        (site.folder / "site_handler.py").write_text(_TALKATIVE)
        site.config.write_text(site.config.read_text().replace("workers = 1", "workers = 4\ntimeout = 5"))
        yield site


@contextmanager
def daemon(site: Site, stdout: int, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    """`preforkd run` with these descriptors, up to its readiness."""
    process = subprocess.Popen(
        site.command("run"), env=site.environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )
    try:
        eventually(lambda: _state(site) == "running", "the daemon is ready")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(20)


def _state(site: Site) -> str:
    with suppress(Exception):
        return str(site.status()["state"])
    return ""


def stopped_terminal() -> Ends:
    """A terminal after Ctrl-S."""
    screen, terminal = os.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    return screen, terminal


def stream() -> Ends:
    """The stream of journald, and of other collectors of logs."""
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def read_on(ends: Ends) -> None:
    """Go on as a reader who was away."""
    if os.isatty(ends[1]):
        termios.tcflow(ends[1], termios.TCOON)


def everything(descriptor: int, until: Callable[[bytes], bool]) -> bytes:
    """What is read until a condition holds."""
    os.set_blocking(descriptor, False)
    data = bytearray()

    def found() -> bool:
        with suppress(BlockingIOError):
            while more := os.read(descriptor, 1024**2):
                data.extend(more)
        return until(data)

    eventually(found, "the log has what is waited for")
    return bytes(data)


@pytest.mark.parametrize("make", [stopped_terminal, stream])
def test_no_process_waits_for_a_reader_that_stands_still_and_the_loss_is_told(
    site: Site, make: Callable[[], Ends]
) -> None:
    ends = make()
    flags = fcntl.fcntl(ends[1], fcntl.F_GETFL)
    with daemon(site, ends[1], ends[1]):
        site.ok("publish", "mail", stdin="x\n" * _MESSAGES)
        site.wait_for_counter("done", _MESSAGES)
        assert [record["cause"] for record in site.exits()] == [], "no worker ran into its time limit"
        assert fcntl.fcntl(ends[1], fcntl.F_GETFL) == flags, "other holders of this descriptor are not affected"
        read_on(ends)
        log = everything(ends[0], lambda data: b"lines were lost because the log was not read" in data)
        assert log.count(b"log.lost") == 1
    for end in ends:
        os.close(end)


def test_a_stop_ends_a_daemon_whose_log_is_not_read(site: Site) -> None:
    ends = os.pipe()  # Docker's default log mode
    with daemon(site, ends[1], ends[1]) as process:
        site.ok("publish", "mail", stdin="x\n" * _MESSAGES)
        site.wait_for_counter("done", _MESSAGES)
        begun_s = monotonic_s()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert monotonic_s() - begun_s < _STOPS_WITHIN_S
    for end in ends:
        os.close(end)


def test_long_lines_of_several_workers_are_whole_and_none_is_missing_where_they_are_read(site: Site) -> None:
    out, err = site.folder / "out", site.folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stderr)
        assert cat.stdin is not None
        with daemon(site, stdout.fileno(), cat.stdin.fileno()):
            cat.stdin.close()
            site.ok("publish", "mail", "--id-prefix", "message-", stdin="program\n" * 600)
            site.wait_for_counter("done", 600)
        cat.wait(20)
    lines = [json.loads(line) for line in err.read_text().splitlines() if line != "raw"]
    for logger in ("mine", "stdout"):
        own = sorted(line["message"] for line in lines if line.get("logger") == logger)
        assert own == sorted(f"message-{number} " * 600 for number in range(600))
    assert out.read_text() == "of a program\n" * 600
    assert err.read_text().count("raw\n") == 600


def test_a_signal_handler_may_print_while_the_handler_prints(site: Site) -> None:
    (site.folder / "site_handler.py").write_text(_PRINTS_IN_PRINTS)
    site.ok("start")
    site.ok("publish", "mail", stdin="x\n" * 3)
    site.wait_for_counter("done", 3)
    log = site.folder / "state" / "preforkd.log"
    eventually(lambda: log.read_text().count("4999 xxx") == 3, "all that was printed is in the log")
    assert "in between" in log.read_text()
    assert log.read_text().count("x" * 300) == 15_000


def test_a_relay_that_was_killed_is_started_again_and_no_process_notices(site: Site) -> None:
    site.ok("start")
    log = site.folder / "state" / "preforkd.log"
    former = relay_of(site.status()["pid"])
    assert former is not None
    os.kill(former, signal.SIGKILL)
    site.ok("publish", "mail", "--id-prefix", "m", stdin="program\n" * 20)
    site.wait_for_counter("done", 20)
    eventually(lambda: "log.relay_replaced" in log.read_text(), "the loss of the relay is told")
    eventually(lambda: log.read_text().count("of a program\n") == 20, "what was printed meanwhile is in the log")
    assert relay_of(site.status()["pid"]) not in (None, former)
    assert site.exits() == []


def test_workers_that_outlive_a_killed_master_are_heard_and_the_relay_ends_after_them(site: Site) -> None:
    (site.folder / "site_handler.py").write_text(
        "from pathlib import Path\n"
        "HERE = Path(__file__).parent\n"
        "def run(message):\n"
        "    open(HERE / 'go').read()\n"
        "    print('outlived')\n"
    )
    os.mkfifo(site.folder / "go")
    site.ok("start")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="x\n")
    site.wait_until_running("m0")
    relay, master = relay_of(site.status()["pid"]), site.status()["pid"]
    os.kill(master, signal.SIGKILL)
    (site.folder / "go").write_text("")
    eventually(lambda: "outlived" in (site.folder / "state" / "preforkd.log").read_text(), "the worker is heard")
    eventually(lambda: not Path(f"/proc/{relay}").exists() or _is_zombie(relay), "the relay has ended")


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_reload_sends_the_log_to_another_file_and_refuses_one_that_cannot_be_opened(site: Site) -> None:
    site.ok("start")
    text = site.config.read_text()
    site.config.write_text(text + f'[log]\nfile = "{site.folder}/none/here"\n')
    assert "cannot be opened" in site.cli("reload").stderr
    site.config.write_text(text + '[log]\nfile = "other.log"\n')
    site.ok("reload")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="x\n")
    eventually(lambda: "m0 m0" in (site.folder / "other.log").read_text(), "a worker's line is in the new file")


def test_a_log_file_that_is_a_pipe_without_a_reader_is_refused_and_not_waited_for(site: Site) -> None:
    os.mkfifo(site.folder / "pipe")
    site.config.write_text(site.config.read_text() + '[log]\nfile = "pipe"\n')
    for command in ("check", "start", "run"):
        done = site.cli(command)
        assert done.returncode == 1
        assert "No such device or address" in done.stdout + done.stderr
