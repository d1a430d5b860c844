"""A daemon started at a terminal: it has none, and the end of the session it was started in does not reach it."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.site import Site, make_site
from tests.support.waiting import eventually

_TTY = 4  # field 7 of /proc/PID/stat, counted behind the command: the controlling terminal, 0 for none


@contextmanager
def terminal_session(command: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A shell that leads a session at a terminal of its own; at the end the terminal hangs up."""
    screen, terminal = os.openpty()
    shell = subprocess.Popen(
        ["sh", "-c", command],
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    try:
        yield shell
    finally:
        os.close(screen)  # the user logs out: SIGHUP to the terminal's processes
        shell.wait(20)


def terminal_of(pid: int) -> int:
    """The device number of a process's controlling terminal."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[_TTY])


def start_at_a_terminal(site: Site) -> set[int]:
    """Log in, `preforkd start`, log out; what is known of the daemon while the terminal is there: its processes."""
    started = site.folder / "started"
    command = f"{shlex.join(site.command('start'))} && touch {started}; exec sleep 1000"
    with terminal_session(command, site.environment) as shell:
        eventually(started.exists, "the daemon is ready")
        assert terminal_of(shell.pid) != 0, "or this shows nothing"
        known = {pid for pid in site.processes() if pid != shell.pid}
        for pid in known:
            assert terminal_of(pid) == 0, Path(f"/proc/{pid}/cmdline").read_text()
            assert os.getsid(pid) != shell.pid
    assert shell.returncode == -1, "the session has ended by SIGHUP"
    return known


def known_by_status(site: Site) -> set[int]:
    """The master, the forkserver, the consumer and the worker."""
    status = site.status()
    pool = status["pools"]["mail"]
    return {status["pid"], pool["forkserver"]["pid"], pool["consumer"]["pid"], pool["workers"][0]["pid"]}


def test_the_end_of_the_session_leaves_the_daemon_at_work(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        known = start_at_a_terminal(site)
        site.ok("publish", "mail", stdin="nothing\n")
        site.wait_for_counter("done", 1)
        assert site.exits() == []
        assert known_by_status(site) <= known & set(site.processes())


def test_a_hang_up_ends_no_child_of_the_daemon(tmp_path: Path) -> None:
    """SIGHUP has a meaning for the master alone (reload)."""
    with make_site(tmp_path) as site:
        site.ok("start")
        for pid in set(site.processes()) - {site.status()["pid"]}:
            os.kill(pid, signal.SIGHUP)
        site.ok("publish", "mail", stdin="nothing\n")
        site.wait_for_counter("done", 1)
        assert site.exits() == []
