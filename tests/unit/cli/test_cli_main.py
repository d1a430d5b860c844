"""From argv to exit code: usage, errors for users, bugs, and the other project named supervisor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from supervisor import __version__
from supervisor.cli import main
from supervisor.cli.catalogue import COMMANDS
from supervisor.cli.invocation import SECONDS
from supervisor.cli.program import DEBUG_VARIABLE, Commands, preforkd
from supervisor.cli.publish import Header, publications, repeated, where_they_are
from supervisor.errors import ConfigError, PreforkdError, Problem
from supervisor.messages.message import Properties


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A command `raise` that raises what the test puts into the dictionary."""
    what: dict[str, BaseException] = {}

    @click.command("raise")
    def command() -> None:
        raise what["error"]

    monkeypatch.setitem(preforkd.commands, "raise", command)
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    return what


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_the_table_says_and_says_what_it_does(name: str) -> None:
    command = preforkd.commands[name]

    assert command.name == name
    assert command.get_short_help_str()


@pytest.mark.parametrize(
    ("argv", "proposed"),
    [
        (["relaod"], "'reload'"),
        (["dead", "lsit"], "'list'"),
        (["--config", "x.toml", "statsu", "--json"], "'status'"),
        (["status", "--jsno"], "--json"),
        (["status", "--cofnig", "x"], "--config"),
        (["--cofnig", "x", "status"], "--config"),
    ],
)
def test_what_is_no_command_or_option_brings_those_that_are_like_it(
    argv: list[str], proposed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.count("Did you mean") == 1
    assert proposed in said


def test_what_is_like_no_command_brings_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2
    assert capsys.readouterr().err.endswith("Error: No such command 'xyzzy'.\n")


def test_completion_knows_commands_that_are_not_loaded() -> None:
    group = click.Group("preforkd", Commands(COMMANDS))

    offered = ShellComplete(group, {}, "preforkd", "_PREFORKD_COMPLETE").get_completions([], "re")

    assert [item.value for item in offered] == ["reload", "restart", "resume", "retry"]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(rf"preforkd {re.escape(__version__)}( \(commit \S+\))?\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "argv",
    [
        ["no-such-command"],
        ["status", "--no-such-option"],
        ["publish"],
        ["publish", "q", "--header", "novalue"],
        ["publish", "q", "--files"],
        ["stop", "--timeout", "soon"],
        ["dead", "retry", "q"],
        ["dead", "retry", "q", "id", "--all"],
        ["exits", "--cause", "boredom"],
        ["completion", "tcsh"],
    ],
)
def test_wrong_usage_is_status_2_and_no_traceback(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2

    errors = capsys.readouterr().err
    assert "Usage: preforkd" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("error", "status"),
    [(PreforkdError("no way"), 1), (ConfigError("a.toml", [Problem("log.level", "loud", "no way")]), 78)],
)
def test_an_error_is_one_sentence_and_its_exit_code(
    error: PreforkdError, status: int, raising: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    raising["error"] = error

    assert main(["raise"]) == status

    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_bug_is_one_sentence_too(raising: dict[str, BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    raising["error"] = ZeroDivisionError("by zero")

    assert main(["raise"]) == 1

    assert "this is a bug in preforkd (ZeroDivisionError: by zero); PREFORKD_DEBUG=1" in capsys.readouterr().err


def test_the_debug_variable_shows_where(raising: dict[str, BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    raising["error"] = ZeroDivisionError("by zero")
    monkeypatch.setenv(DEBUG_VARIABLE, "1")

    with pytest.raises(PreforkdError) as caught:
        main(["raise"])

    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_an_interrupt_is_130(raising: dict[str, BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    raising["error"] = KeyboardInterrupt()

    assert main(["raise"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_the_other_project_named_supervisor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "supervisor-4.2.5.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: supervisor\nVersion: 4.2.5\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    assert main(["--version"]) == 1

    said = capsys.readouterr().err
    assert "supervisor` 4.2.5 (supervisord) is installed" in said
    assert "pip uninstall supervisor" in said


def test_a_path_for_imports_that_is_no_folder_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive.zip").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "archive.zip"), str(tmp_path / "gone"), *sys.path])

    assert main(["--version"]) == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell: str) -> None:
    done = CliRunner().invoke(preforkd, ["completion", shell])

    assert done.exit_code == 0
    assert "_PREFORKD_COMPLETE" in done.output
    assert "preforkd" in done.output


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("1m30s", 90.0), ("2.5", 2.5), ("0", 0.0), (5.0, 5.0)])
def test_durations_are_read_as_in_the_configuration(text: object, seconds: float) -> None:
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "3 parsecs", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SECONDS.convert(text, None, None)


def test_a_header_is_split_at_its_first_equals_sign() -> None:
    assert Header().convert("filter=a=b", None, None) == ("filter", "a=b")
    assert Header().convert("empty=", None, None) == ("empty", "")


@pytest.mark.parametrize("text", ["novalue", "=value", ""])
def test_a_header_without_a_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Header().convert(text, None, None)


# ---- publications ---------------------------------------------------------------------------------------------------


def test_ids_count_behind_their_prefix_over_all_repetitions() -> None:
    made = list(publications("q", repeated(iter([b"a", b"b"]), 2), Properties(content_type="t"), "x-"))

    assert [(p.properties.message_id, p.body) for p in made] == [
        ("x-0", b"a"),
        ("x-1", b"b"),
        ("x-2", b"a"),
        ("x-3", b"b"),
    ]
    assert {(p.exchange, p.routing_key, p.properties.content_type) for p in made} == {("", "q", "t")}


def test_publications_are_made_one_at_a_time() -> None:
    def endless() -> object:
        while True:
            yield b"x"

    made = publications("q", repeated(iter(endless()), 1), Properties(), None)  # type: ignore[call-overload]

    assert next(made).properties.message_id != next(made).properties.message_id


@pytest.mark.parametrize(
    ("failed", "absent", "told"),
    [
        (2, 2, "they are not in the queue"),
        (2, 0, "they may or may not be in the queue"),
        (3, 1, "1 of them are not in the queue, the others may or may not be in the queue"),
    ],
)
def test_of_failed_messages_is_said_what_is_known(failed: int, absent: int, told: str) -> None:
    assert where_they_are(failed, absent).startswith(told)


# ---- what a command loads -------------------------------------------------------------------------------------------


def test_a_short_command_loads_nothing_that_it_does_not_need() -> None:
    script = "import sys, supervisor.cli.program, supervisor.cli.status; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    loaded = set(done.stdout.split())
    assert "supervisor.cli.status" in loaded
    assert loaded & {"click.shell_completion", "rich", "pika", "sqlite3"} == set()
