"""Where a probe finds the daemon's socket: the same directory as every other command, or no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config import location
from supervisor.config.load import load_daemon
from supervisor.config.location import RUNTIME_DIR, plain_runtime_dir
from supervisor.config.schema import DaemonConfig


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the file under test; nothing else is found by searching."""
    monkeypatch.delenv("PREFORKD_CONFIG", raising=False)
    monkeypatch.setattr(location, "SEARCHED", ("preforkd.toml",))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "preforkd.toml"


def test_the_default_is_that_of_the_schema() -> None:
    assert DaemonConfig().runtime_dir == RUNTIME_DIR


PLAIN = [
    "",
    "[broker]\nurl = '${RABBITMQ_URL}'",
    "[daemon]\nstop_timeout = '5s'",
    "[daemon]\nruntime_dir = '/srv/run'",
    "[daemon]\nruntime_dir = 'run'",
    "[daemon]\nruntime_dir = '../run'",
    "\ufeff[daemon]\nruntime_dir = 'run'",
    "[daemon]\nuser = 'x' # runtime_dir",
    "daemon.runtime_dir = 'dotted'",
]


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_file_says_it(file: Path, text: str) -> None:
    file.write_text(text)

    assert Path(plain_runtime_dir(None)) == Path(plain_runtime_dir(str(file))) == Path(load_daemon(None).runtime_dir)


UNUSUAL = [
    "[daemon]\nruntime_dir = '${HOME}/run'",
    "[daemon]\nruntime_dir = '~/run'",
    "[daemon]\nruntime_dir = ''",
    "[daemon]\nruntime_dir = 3",
    "daemon = 'runtime_dir'",
    "runtime_dir = not TOML",
]


@pytest.mark.parametrize("text", UNUSUAL)
def test_an_unusual_one_is_left_to_the_reader_of_configurations(file: Path, text: str) -> None:
    file.write_text(text)

    assert plain_runtime_dir(None) == ""


def test_without_a_file_there_is_no_answer(file: Path) -> None:
    assert plain_runtime_dir(None) == plain_runtime_dir(str(file)) == ""


def test_the_variable_names_a_file_unless_the_command_does(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("other.toml")
    other.write_text("[daemon]\nruntime_dir = '/other'")
    file.write_text("[daemon]\nruntime_dir = '/this'")
    monkeypatch.setenv("PREFORKD_CONFIG", str(other))

    assert (plain_runtime_dir(None), plain_runtime_dir(str(file))) == ("/other", "/this")


def test_a_mistake_elsewhere_in_the_file_hides_no_daemon(file: Path) -> None:
    file.write_text("[pools.email\nqueue = ")

    assert plain_runtime_dir(None) == RUNTIME_DIR
