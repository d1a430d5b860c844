"""`preforkd logs` on real daemons: of `start`, with a file of its own, with a file behind stderr, in a pipe, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.nobody import NOBODY, a_public_folder, public_path, public_python
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

OTHER = '[pools.post]\nqueue = "newc.post"\nhandler = "site_handler:run"\npath = ["."]\nworkers = 1\nmax_attempts = 1\n'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text() + OTHER)
        yield site


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The daemon of `start`, with two pools."""
    with make_site(tmp_path_factory.mktemp("logs")) as site:
        site.config.write_text(site.config.read_text() + OTHER)
        site.ok("start")
        assert site.log_path.exists()
        yield site


@contextmanager
def running(site: Site, stderr: int) -> Iterator[None]:
    """`preforkd run` with this stderr, ready."""
    process = subprocess.Popen(
        site.command("run"), env=site.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
    )
    try:
        eventually(lambda: _is_running(site), "the daemon is ready")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _is_running(site: Site) -> bool:
    with suppress(Exception):
        return bool(site.status()["state"] == "running")
    return False


def log_to(site: Site, file: str) -> None:
    site.config.write_text(f'{site.config.read_text()}\n[log]\nfile = "{file}"\n')


# ---- the daemon of `start` ----------------------------------------------------------------------------------------


def test_the_log_of_a_started_daemon_is_shown_as_people_read_it(started: Site) -> None:
    lines = started.ok("logs").splitlines()
    assert any("master[" in line and "daemon.ready: " in line for line in lines)
    assert not any(line.startswith("{") for line in lines)


def test_json_is_what_the_daemon_has_written(started: Site) -> None:
    written = [line for line in started.log_path.read_text().splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in started.ok("logs", "-n", "0", "--json").splitlines()] == [
        json.loads(line) for line in written
    ]


@pytest.mark.parametrize("name", ["post", "newc.post"])
def test_only_lines_of_a_pool_are_shown_by_its_name_or_its_queue(started: Site, name: str) -> None:
    found = [json.loads(line) for line in started.ok("logs", name, "--json").splitlines()]
    assert {line["process"] for line in found} == {"consumer post", "master"}
    assert all("post" in line["process"] or line.get("pool") == "post" for line in found)


def test_an_unknown_pool_is_an_error_with_the_known_ones(started: Site) -> None:
    done = started.cli("logs", "pots")
    assert done.returncode == 1
    assert "there is no pool 'pots'; there are mail, post" in done.stderr


@pytest.mark.parametrize("options", [["--lines", "2"], ["-n2"]])
def test_as_many_lines_are_shown_as_are_asked_for(started: Site, options: list[str]) -> None:
    assert len(started.ok("logs", "--json", *options).splitlines()) == 2


def test_new_lines_are_shown_as_they_are_logged_until_ctrl_c(started: Site) -> None:
    command = started.command("logs", "post", "-f", "-n1", "--json")
    with subprocess.Popen(command, env=started.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follow:
        assert follow.stdout is not None
        follow.stdout.readline()
        started.ok("publish", "post", "--id-prefix", "seen-", stdin="fail\n")
        shown = iter(follow.stdout.readline, b"")
        assert any(json.loads(line).get("message_id") == "seen-0" for line in shown)
        follow.send_signal(signal.SIGINT)
        _, errors = follow.communicate(timeout=20)
    assert (follow.returncode, errors.decode().strip()) == (130, "interrupted")


def test_a_reader_that_has_gone_ends_the_command(started: Site) -> None:
    command = started.command("logs", "--follow")
    with subprocess.Popen(command, env=started.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follow:
        assert follow.stdout is not None
        follow.stdout.readline()
        follow.stdout.close()
        started.ok("publish", "mail", "--id-prefix", "gone-", stdin="fail\n")
        assert follow.wait(30) == 141


# ---- other places -------------------------------------------------------------------------------------------------


def test_the_log_of_an_ended_daemon_is_still_shown(site: Site) -> None:
    site.ok("start")
    site.ok("stop")
    assert "daemon.stopped" in site.ok("logs")


@pytest.mark.parametrize("pattern", ["mail.log", "logs/mail.log"])
def test_the_file_of_the_configuration_is_read_with_and_without_a_daemon(site: Site, pattern: str) -> None:
    (site.folder / "logs").mkdir()
    log_to(site, pattern)
    with running(site, subprocess.DEVNULL):
        assert "daemon.ready" in site.ok("logs")
    assert "daemon.stopped" in site.ok("logs")


def test_a_daemon_keeps_its_word_when_its_configuration_is_changed(site: Site) -> None:
    log_to(site, "mail.log")
    with running(site, subprocess.DEVNULL):
        site.config.write_text(site.config.read_text().replace("mail.log", "other.log"))
        assert "daemon.ready" in site.ok("logs")


def test_a_file_behind_stderr_is_read(site: Site) -> None:
    with (site.folder / "by-the-shell.log").open("wb") as file, running(site, file.fileno()):
        assert "daemon.ready" in site.ok("logs")


def test_a_log_in_a_pipe_is_an_error_that_says_where_it_goes(site: Site) -> None:
    read, write = os.pipe()
    with open(read, "rb"), open(write, "wb"), running(site, write):
        done = site.cli("logs")
    assert done.returncode == 1
    assert "goes to its stderr, a pipe, and cannot be read again" in done.stderr
    assert "docker logs" in done.stderr


@pytest.mark.parametrize("by_a_link", [False, True])
def test_a_stream_of_the_daemon_is_not_taken_for_our_own(site: Site, by_a_link: bool) -> None:
    (site.folder / "linked.log").symlink_to("/dev/stderr")
    log_to(site, "linked.log" if by_a_link else "/dev/stderr")
    done = site.cli("logs")
    assert done.returncode == 1
    assert "the log goes to /dev/stderr, and cannot be read again" in done.stderr


def test_no_log_is_an_error_that_says_where_one_would_be(site: Site) -> None:
    done = site.cli("logs")
    assert done.returncode == 1
    assert "there is no log: no daemon runs, `preforkd start` has left none in" in done.stderr


def test_no_other_section_and_no_variable_is_needed(site: Site) -> None:
    site.ok("start")
    site.ok("stop")
    site.config.write_text(site.config.read_text().replace("embedded:", "${NOT_SET_ANYWHERE}"))
    assert "daemon.stopped" in site.ok("logs")


def test_a_log_that_one_may_not_read_is_an_error_with_advice() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    with a_public_folder() as folder, make_site(folder) as site:
        log_to(site, "mail.log")
        (folder / "mail.log").write_text("a secret\n")
        (folder / "mail.log").chmod(0o600)
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        command = [*drop, public_python(), *site.command("logs")[1:]]
        environment = site.environment | {"PYTHONPATH": str(public_path())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "mail.log: cannot read the log: Permission denied; use the daemon's user, or root (sudo)" in done.stderr
