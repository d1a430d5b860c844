"""The first minute of a user without root who has only Python: the README's commands, word for word."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.support.nobody import NOBODY, needs_root, ordinary_home
from tests.support.shells import Shell
from tests.support.source_tree import ROOT

_FIRST_MINUTE = re.compile(r"## The first minute.*?```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def home() -> Iterator[Shell]:
    with ordinary_home() as home:
        try:
            yield home
        finally:
            if (home.folder / "preforkd.toml").exists():
                home.types("preforkd stop --now")


def test_the_first_minute_of_the_readme_works_as_written(home: Shell) -> None:
    found = _FIRST_MINUTE.search((ROOT / "README.md").read_text())
    assert found is not None
    lines = [line for line in found[1].splitlines() if line]
    assert [line.split()[1] for line in lines if line.startswith("preforkd")] == [
        *("init", "check", "start", "status", "exits", "logs", "stop")
    ]
    said = {line.partition("#")[0].strip(): home.ok(line) for line in lines}

    assert "0 error(s), 0 warning(s)" in said["preforkd check"]
    assert said["preforkd start"].startswith("preforkd is ready, pid ")
    assert said["echo hello | preforkd publish default"] == "published 1 message(s) to default\n"
    assert "pool default: ok" in said["preforkd status"]
    assert "daemon.ready: " in said["preforkd logs"]
    assert "finished" in said["preforkd stop"]
    log = (home.folder / "preforkd-state" / "preforkd.log").read_text()
    assert "hello" in log
    assert "Traceback" not in log


def test_nothing_is_left_that_others_can_read_but_the_folder(home: Shell) -> None:
    home.ok("preforkd init; preforkd start; echo hello | preforkd publish default; preforkd stop")

    state = home.folder / "preforkd-state"
    assert state.stat().st_mode & 0o007 == 0
    assert not [path for path in state.rglob("*") if path.is_file() and path.stat().st_mode & 0o007]
    assert [path.suffix for path in (state / "run").iterdir()] == [".ledger"], "neither PID file nor sockets"


def test_a_second_start_status_and_stop_say_how_it_is(home: Shell) -> None:
    home.ok("preforkd init; preforkd start")

    again = home.types("preforkd start")

    assert (again.returncode, again.stderr.startswith("error: preforkd is running already, pid ")) == (1, True)
    home.ok("preforkd stop; preforkd stop")
    assert home.types("preforkd status").returncode == 3


def test_a_folder_that_is_not_ones_own_is_named(home: Shell) -> None:
    home.ok("preforkd init")
    config = home.folder / "preforkd.toml"
    config.write_text(config.read_text().replace('"preforkd-state"', '"/proc/1/state"'))

    refused = home.types("preforkd start")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: /proc/1/state: this directory cannot be made or used: ")


@needs_root
def test_files_of_another_user_are_refused_by_name(home: Shell) -> None:
    home.ok("preforkd init; preforkd start; preforkd stop")
    pid_file, ledger = home.folder / "preforkd-state/run/preforkd.pid", home.folder / "preforkd-state/lock"
    for path, told in ((pid_file, "preforkd.pid: cannot be opened: Permission denied"), (ledger, "lock: cannot be")):
        path.touch()
        path.chmod(0o600)
        os.chown(path, 0, 0)

        refused = home.types("preforkd start")

        assert (refused.returncode, refused.stdout) == (1, "")
        assert told in refused.stderr
        assert "correct its owner" in refused.stderr
        os.chown(path, NOBODY, NOBODY)
    home.ok("preforkd start")
