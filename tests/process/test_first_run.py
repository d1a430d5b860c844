"""The first minute of somebody who is not root and has only Python: what README says, as it says it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nobody import NOBODY, needs_root, ordinary_home
from tests.support.source_tree import ROOT

_FIRST_MINUTE = re.compile(r"## The first minute.*?```sh\n(.*?)```", re.DOTALL)


class Home:
    """A home folder and what its owner types there."""

    def __init__(self, folder: Path, prefix: list[str], environment: dict[str, str]) -> None:
        self.folder = folder
        self._prefix = prefix
        self._environment = environment

    def types(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run shell commands; they end at the first that fails."""
        return subprocess.run(
            [*self._prefix, "sh", "-ec", commands],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ok(self, commands: str) -> str:
        """Shell commands that must succeed; their output."""
        done = self.types(commands)
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def home() -> Iterator[Home]:
    with ordinary_home() as (folder, prefix, environment):
        home = Home(folder, prefix, environment)
        try:
            yield home
        finally:
            if (folder / "preforkd.toml").exists():
                home.types("preforkd stop --now")


def test_the_first_minute_of_the_readme_works_as_written(home: Home) -> None:
    found = _FIRST_MINUTE.search((ROOT / "README.md").read_text())
    assert found is not None
    lines = [line for line in found[1].splitlines() if line]
    assert [line.split()[1] for line in lines if line.startswith("preforkd")] == [
        *("init", "check", "start", "status", "exits", "stop")
    ]
    said = {line.partition("#")[0].strip(): home.ok(line) for line in lines}

    assert "0 error(s), 0 warning(s)" in said["preforkd check"]
    assert said["preforkd start"].startswith("preforkd is ready, pid ")
    assert said["echo hello | preforkd publish default"] == "published 1 message(s) to default\n"
    assert "pool default: ok" in said["preforkd status"]
    assert "finished" in said["preforkd stop"]
    log = (home.folder / "preforkd-state" / "preforkd.log").read_text()
    assert "hello" in log
    assert "Traceback" not in log


def test_nothing_is_left_that_others_can_read_but_the_folder(home: Home) -> None:
    home.ok("preforkd init; preforkd start; echo hello | preforkd publish default; preforkd stop")

    state = home.folder / "preforkd-state"
    assert state.stat().st_mode & 0o007 == 0
    assert not [path for path in state.rglob("*") if path.is_file() and path.stat().st_mode & 0o007]
    assert not list((state / "run").iterdir()), "neither PID file nor sockets"


def test_a_second_start_status_and_stop_say_how_it_is(home: Home) -> None:
    home.ok("preforkd init; preforkd start")

    again = home.types("preforkd start")

    assert (again.returncode, again.stderr.startswith("error: preforkd is running already, pid ")) == (1, True)
    home.ok("preforkd stop; preforkd stop")
    assert home.types("preforkd status").returncode == 3


def test_a_folder_that_is_not_ones_own_is_named(home: Home) -> None:
    home.ok("preforkd init")
    config = home.folder / "preforkd.toml"
    config.write_text(config.read_text().replace('"preforkd-state"', '"/proc/1/state"'))

    refused = home.types("preforkd start")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: /proc/1/state: this directory cannot be made or used: ")


@needs_root
def test_files_of_another_user_are_refused_by_name(home: Home) -> None:
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
