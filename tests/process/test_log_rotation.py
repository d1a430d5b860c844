"""The real logrotate with the file we ship: no process is restarted, no line is lost, all go on in the new file."""

from __future__ import annotations

import grp
import json
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site
from tests.support.source_tree import ROOT
from tests.support.tools import tool
from tests.support.waiting import eventually

_TALKATIVE = """
import logging, os, subprocess

def run(message):
    print("printed", message.id)
    os.write(2, f"raw {message.id}\\n".encode())
    subprocess.run(["echo", "by a child", message.id], check=True)
    logging.getLogger("mine").warning("logged %s", message.id)
    raise ValueError("so that the consumer logs, too")
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        (site.folder / "site_handler.py").write_text(_TALKATIVE)
        site.ok("start")
        yield site


def rotate(site: Site) -> None:
    """Run logrotate on this site's log, as the shipped file says, with our paths and our user."""
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    text = (ROOT / "etc" / "preforkd.logrotate").read_text()
    text = text.replace("/var/lib/preforkd", str(site.folder / "state")).replace(
        "preforkd preforkd\n", f"{user} {group}\n"
    )
    config = site.folder / "logrotate.conf"
    config.write_text(text)
    config.chmod(0o644)
    command = [tool("logrotate"), "--force", "--state", str(site.folder / "logrotate.state"), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def fail(site: Site, message_id: str, dead: int) -> None:
    """Have one message run, and given up."""
    site.ok("publish", "mail", "--id-prefix", message_id, stdin="x\n")
    site.wait_for_counter("dead", dead)


def processes_in(text: str) -> set[str]:
    """Who has written the log lines."""
    return {json.loads(line)["process"] for line in text.splitlines() if line.startswith("{")}


def test_all_processes_go_on_in_the_new_file_and_no_line_is_lost(site: Site) -> None:
    log = site.log_path
    before = site.status()["pid"], site.processes()
    fail(site, "first", 1)
    assert site.log_path == log
    rotate(site)
    moved = log.with_name("preforkd.log.1")
    old = moved.read_text()
    assert (log.stat().st_size, log.stat().st_mode & 0o777) == (0, 0o640)

    fail(site, "second", 2)
    os.kill(site.status()["pools"]["mail"]["workers"][0]["pid"], signal.SIGKILL)
    eventually(lambda: "worker.exited" in log.read_text(), "the master has logged the exit")

    new = site.log_path.read_text()
    assert {"master", "consumer mail", "worker mail/0"} <= processes_in(new)
    for words in ("printed second0", "raw second0", "by a child second0", "logged second0"):
        assert words in new
    for words in ("printed first0", "raw first0", "by a child first0", "logged first0", "daemon.ready"):
        assert words in old
    assert moved.read_text() == old, "no process has written to the former file any more"
    assert site.status()["pid"] == before[0], "the master was not restarted"


def test_a_second_rotation_compresses_the_first(site: Site) -> None:
    fail(site, "first", 1)
    rotate(site)
    fail(site, "second", 2)
    rotate(site)
    names = {path.name for path in (site.folder / "state").glob("preforkd.log*")}
    assert names == {"preforkd.log", "preforkd.log.1", "preforkd.log.2.gz"}
