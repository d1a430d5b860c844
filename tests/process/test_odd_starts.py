"""Started from anywhere, by anybody, with anything: it works, or one sentence names what is wrong."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.support.site import Site
from tests.support.waiting import eventually

_BROKER = 'url = "amqp://user:${PREFORKD_TEST_PASSWORD}@127.0.0.1:1"'


def shell(site: Site, redirections: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with redirections of the shell."""
    return subprocess.run(
        ["bash", "-c", f"{shlex.join(site.command(*arguments))} {redirections}"],
        env=site.environment | environment,
        capture_output=True,
        timeout=60,
    )


def test_a_start_without_standard_descriptors_works_and_no_log_text_lands_in_another_file(site: Site) -> None:
    assert shell(site, "<&- >&- 2>&-", "start").returncode == 0
    site.ok("publish", "mail", stdin="fail\n")
    site.wait_for_counter("dead", 1)
    assert shell(site, ">&-", "status").returncode == 0
    assert shell(site, "2>&-", "status").stdout.startswith(b"preforkd")
    assert b"Traceback" not in shell(site, ">/dev/full", "status").stderr
    assert shell(site, "| head -1", "status").stderr == b""
    site.ok("stop")
    state = [path for path in (site.folder / "state").rglob("*") if path.is_file() and path.suffix != ".log"]
    assert [path for path in state if b'"daemon.started"' in path.read_bytes()] == []
    assert b'"message.dead"' in (site.folder / "state" / "preforkd.log").read_bytes()


def test_a_run_without_stderr_in_an_odd_environment_works(site: Site) -> None:
    """`max_age`: a worker waits longer than poll(2) can count."""
    site.config.write_text(site.config.read_text().replace("workers = 1", 'workers = 1\nmax_age = "60d"'))
    environment = {"ODD": "a\udcffb", "LC_ALL": "C", "LANG": "", "TZ": "No/Where", "TERM": "", "COLUMNS": "1"}
    shell(site, "2>&- >/dev/null &", "run", **environment)
    eventually(lambda: site.cli("status").returncode == 0, "the daemon can be asked")
    site.wait_for_state("running")
    site.ok("publish", "mail", stdin="fail\n")
    site.wait_for_counter("dead", 1)
    shown = shell(site, "", "status", **environment)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"pool mail: ok" in shown.stdout
    assert site.exits() == []
    named = shell(site, "", "pause", "q\udcff")
    assert b"is not UTF-8" in named.stderr
    site.ok("stop")


def test_what_needs_no_broker_asks_for_no_variable_of_it(site: Site) -> None:
    site.config.write_text(site.config.read_text().replace('url = "embedded:"', _BROKER))
    for command, status in ((["status"], 3), (["exits"], 0), (["stop"], 0), (["pause", "mail"], 1), (["metrics"], 1)):
        done = site.cli(*command)
        assert done.returncode == status, done.stderr
        assert "PREFORKD_TEST_PASSWORD" not in done.stdout + done.stderr
    for command in (["start"], ["check"], ["restart"], ["publish", "mail"], ["dead", "list", "mail"]):
        done = site.cli(*command)
        assert done.returncode == 78
        assert "the environment variable PREFORKD_TEST_PASSWORD is not set" in done.stdout + done.stderr


def test_a_folder_that_is_not_utf8_is_named(site: Site) -> None:
    folder = Path(os.fsdecode(os.fsencode(site.folder) + b"/\xff"))
    folder.mkdir()
    (folder / "preforkd.toml").write_text(site.config.read_text())
    for command in ("start", "check", "status"):
        done = shell(site, "", "--config", f"{folder}/preforkd.toml", command)
        assert done.returncode == 78
        assert b"\\xff/preforkd.toml: " in done.stdout + done.stderr
        assert b"its path is not UTF-8" in done.stdout + done.stderr


def test_a_folder_that_was_removed_is_named(site: Site) -> None:
    gone = site.folder / "gone"
    gone.mkdir()
    command = [*site.command()[:3], "status"]
    done = subprocess.run(
        ["bash", "-c", f"cd {gone} && rmdir {gone} && PREFORKD_CONFIG=here.toml {shlex.join(command)}"],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "the current folder was removed" in done.stderr
    assert done.returncode == 78


def test_an_argument_that_is_not_utf8_is_named(site: Site) -> None:
    done = shell(site, "", "why", "q\udcff")
    assert done.returncode == 1
    assert b"'q\\udcff' is not UTF-8" in done.stderr
