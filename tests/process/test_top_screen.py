"""`preforkd top` and `status --watch` in a real terminal: what is seen, what keys do to a real daemon, what is left."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, daemon
from tests.support.source_tree import ROOT
from tests.support.tmux import Tmux, tmux
from tests.support.waiting import eventually

SETTINGS = 'workers = 2\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 1\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("top"), SETTINGS) as under_test:
        yield under_test


@pytest.fixture
def terminal(running: Daemon, tmp_path: Path) -> Iterator[Tmux]:
    with tmux(tmp_path, running.config_path) as window:
        yield window


def top_pid(running: Daemon) -> int:
    """The process id of the one `preforkd top` of this daemon's configuration."""
    command = f"{running.config_path}\0top".encode()
    return next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and command in command_line(entry)
    )


def command_line(process: Path) -> bytes:
    """Of one of all processes; b"" for one that has ended meanwhile."""
    with suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


# ---- what is seen and done ------------------------------------------------------------------------------------------


def test_what_happens_is_seen_as_it_happens(running: Daemon, terminal: Tmux) -> None:
    terminal.runs("preforkd top --interval 0.2")
    terminal.shows("email/0", "idle", "2/2", "connected", "q quit")
    running.send("until", "go", message_id="ORDER-1")

    terminal.shows("ORDER-1", "running", "/1m", "░")
    victim = next(worker for worker in running.pool()["workers"] if worker["message_id"] == "ORDER-1")
    os.kill(victim["pid"], signal.SIGKILL)

    screen = terminal.shows("killed 1", "SIGKILL", "in doubt", "ORDER-1 (attempt 1)")
    assert max(map(len, screen.splitlines())) <= 80
    terminal.types("q")
    terminal.at_prompt()


def test_keys_pause_scale_and_reload_the_real_daemon(running: Daemon, terminal: Tmux) -> None:
    terminal.runs("preforkd top --interval 0.2")
    terminal.shows("email/0")
    terminal.types("p")
    terminal.shows("pool email is paused", "paused by")
    assert running.pool()["paused"]
    terminal.types("p")
    terminal.shows("pool email takes messages again")
    terminal.types("+", "+")
    terminal.shows("4/4", "scaled to 4, configured: 2")
    assert running.pool()["wanted"] == 4
    terminal.types("r")
    terminal.shows("y/n")
    terminal.types("n")
    former = running.worker()["pid"]
    terminal.types("r", "y")
    terminal.shows("reloaded in", "2/2")
    assert running.worker()["pid"] != former


def test_what_the_daemon_refuses_is_said_and_nothing_ends(running: Daemon, terminal: Tmux) -> None:
    former = running.config_path.read_text()
    terminal.runs("preforkd top --interval 0.2")
    terminal.shows("email/0")
    terminal.types("-", "-")
    terminal.shows("scale: 0 workers in pool email")
    try:
        running.config_path.write_text(former.replace("workers = 2", "workers = 'many'"))
        terminal.types("r", "y")
        terminal.shows('pools.email.workers = "many"', "expected int")
    finally:
        running.config_path.write_text(former)
    running.ask("scale", pool="email", workers=2)
    terminal.shows("2/2")


def test_a_silent_daemon_is_said_while_keys_are_still_heard(running: Daemon, terminal: Tmux) -> None:
    assert running.process is not None
    terminal.runs("preforkd top --interval 0.2")
    terminal.shows("email/0")
    running.process.send_signal(signal.SIGSTOP)
    try:
        terminal.types("?")
        terminal.shows("this page")
        terminal.types("x")
        terminal.shows("the daemon has not answered for", "email/0")
        terminal.types("q")
        terminal.at_prompt()
    finally:
        running.process.send_signal(signal.SIGCONT)


def test_a_daemon_that_goes_and_comes_back_is_seen_to(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with daemon(tmp_path / "site", start=False) as under_test, tmux(tmp_path, under_test.config_path) as window:
        window.runs("preforkd top --interval 0.2")
        window.shows("preforkd is not running")
        under_test.start()
        window.shows("1/1", "idle")
        under_test.stop()
        window.shows("preforkd is not running", "clean_stop")


# ---- the terminal ---------------------------------------------------------------------------------------------------


def test_a_window_that_changes_its_size_is_filled_again(running: Daemon, terminal: Tmux) -> None:
    terminal.runs("preforkd top")
    terminal.shows("q quit")
    terminal.resize(40, 10)
    eventually(lambda: max(map(len, terminal.shows("q quit", "WORKER").splitlines())) <= 40, "it is narrow")
    terminal.resize(120, 40)
    terminal.shows("q quit", "HANDLED", "RETRIED")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(running: Daemon, terminal: Tmux, number: int) -> None:
    terminal.runs("stty -a > before; preforkd top; echo left with $?; stty -a > after; diff before after && echo same")
    terminal.shows("q quit")
    assert (terminal.fact("alternate_on"), terminal.fact("cursor_flag")) == ("1", "0")

    os.kill(top_pid(running), number)

    status = 0 if number == signal.SIGINT else 128 + number
    assert f"left with {status}\nsame" in terminal.at_prompt()
    assert terminal.fact("cursor_flag") == "1"


def test_a_bug_leaves_the_terminal_as_it_was(running: Daemon, terminal: Tmux) -> None:
    running.config_path.with_name("sitecustomize.py").write_text(
        "import supervisor.cli.top.pages as page\npage.TopPage.heard = lambda self, status: 1 / 0\n"
    )
    terminal.runs(f"stty -a > before; PYTHONPATH=$PYTHONPATH:{running.directory} preforkd top; stty -a | diff before -")
    assert "this is a bug in preforkd (ZeroDivisionError" in terminal.at_prompt()
    assert terminal.fact("cursor_flag") == "1"


def test_it_can_be_suspended_and_goes_on(running: Daemon, terminal: Tmux) -> None:
    terminal.runs("stty -a > before; preforkd top")
    terminal.shows("q quit")
    terminal.types("C-z")
    terminal.at_prompt()
    terminal.runs("stty -a | diff before - && echo same; fg")
    terminal.shows("q quit")
    terminal.types("q")
    assert "same" in terminal.at_prompt()


# ---- without one ----------------------------------------------------------------------------------------------------


def told(
    running: Daemon, words: list[str], ends: tuple[int, int], enough: bytes, term: str, columns: int = 100
) -> bytes:
    """What a command writes into the second of these ends, until `enough` is there twice; then it is interrupted."""
    read, write = ends
    command = [sys.executable, "-m", "supervisor", "--config", str(running.config_path), *words]
    environment = {**os.environ, "TERM": term, "COLUMNS": str(columns), "LINES": "30"}
    text = b""

    def read_enough() -> bool:
        nonlocal text
        text += os.read(read, 65536) if select.select([read], [], [], 0)[0] else b""
        return text.count(enough) >= 2

    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=write) as process:
        try:
            eventually(read_enough, f"{enough!r} twice")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
    os.close(read)
    os.close(write)
    return text


def test_a_dumb_terminal_gets_plain_blocks_without_control_codes(running: Daemon) -> None:
    text = told(running, ["status", "--watch", "--interval", "0.2"], pty.openpty(), b"email/1", "dumb")

    assert b"\x1b" not in text
    assert b"pool email: ok" in text


def test_a_pipe_gets_plain_blocks_too(running: Daemon) -> None:
    text = told(running, ["top", "--interval", "0.2"], os.pipe(), b"EXITS", "xterm").decode()

    assert "\x1b" not in text
    assert "q quit" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_pipe_gets_the_whole_lines_of_a_status(running: Daemon) -> None:
    text = told(running, ["status", "--watch", "--json", "--interval", "0.2"], os.pipe(), b"\n\n", "xterm", columns=20)

    assert json.loads(text.decode().split("\n\n")[0])["pools"]["email"]["state"] == "ok"


def test_once_prints_one_screen_and_leaves_the_scrollback_alone(running: Daemon, terminal: Tmux) -> None:
    terminal.runs("preforkd top --once; echo left with $?")

    assert "email/1" in terminal.shows("EXITS", "left with 0")
    assert terminal.fact("alternate_on") == "0"


def test_watching_the_status_shows_what_changes(running: Daemon, terminal: Tmux) -> None:
    terminal.runs("preforkd status --watch --interval 0.2")
    terminal.shows("pool email: ok", "more lines" if len(running.pool()["workers"]) > 10 else "WORKER")
    running.ask("pause", pool="email", by="alice")
    terminal.shows("pool email: paused", "by alice")
    running.ask("resume", pool="email")
    terminal.types("C-c")
    terminal.at_prompt()
