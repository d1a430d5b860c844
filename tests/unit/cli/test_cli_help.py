"""The help as people read it, for every command: whole lines at any width, examples that can be typed, one order."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import click
import pytest

from supervisor.cli import main
from supervisor.cli.catalogue import COMMANDS, SECTIONS
from supervisor.cli.command import Command, Group, first_sentence, global_options
from supervisor.cli.invocation import Invocation
from supervisor.cli.program import preforkd

Names = tuple[str, ...]


def commands(group: click.Group = preforkd, above: Names = ()) -> Iterator[tuple[Names, click.Command]]:
    """Every command with the names that lead to it, groups too."""
    for name in group.commands:
        found = group.commands[name]
        yield (*above, name), found
        if isinstance(found, click.Group):
            yield from commands(found, (*above, name))


ALL: dict[Names, click.Command] = {(): preforkd, **dict(commands())}
LEAVES = {names: command for names, command in ALL.items() if not isinstance(command, click.Group)}


def _help(names: Names, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = io.StringIO()
    with redirect_stdout(text):  # not click's runner, which has a width of its own
        assert main([*names, "--help"]) == 0
    return text.getvalue().splitlines()


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_no_line_of_help_is_cut_or_too_long(names: Names, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _help(names, columns, monkeypatch)

    assert [line for line in lines if "..." in line] == []
    assert [line for line in lines if len(line) > columns] == []


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_all_that_was_written_is_in_the_help(names: Names, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(" ".join(_help(names, columns, monkeypatch)).split())

    for param in ALL[names].params:
        if isinstance(param, click.Option):
            assert param.help and " ".join(param.help.split()) in text
            assert max(param.opts, key=len) in text
    assert " ".join((ALL[names].help or "").split()) in text


def test_the_program_lists_each_command_under_its_title_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _help((), 80, monkeypatch)

    for title, entries in SECTIONS.items():
        at = lines.index(f"{title}:") + 1
        assert [line.split(None, 1) for line in lines[at : at + len(entries)]] == [
            [name, entry.summary] for name, entry in entries.items()
        ]


@pytest.mark.parametrize("text", [entry.summary for entry in COMMANDS.values()])
def test_a_summary_is_a_fragment(text: str) -> None:
    assert text[0].isupper() and not text.endswith(".")
    assert len(text) <= 64, "it has one line at 80 columns"


@pytest.mark.parametrize("names", [names for names in ALL if len(names) > 1], ids=" ".join)
def test_a_command_of_a_group_is_listed_with_its_first_sentence(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(" ".join(_help(names[:-1], 80, monkeypatch)).split())

    assert f" {names[-1]} {first_sentence(ALL[names])} " in text


def test_the_help_of_the_program_loads_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unloaded(dict[str, click.Command]):
        def __missing__(self, name: str) -> click.Command:
            raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(preforkd, "commands", Unloaded())

    assert any("Look:" in line for line in _help((), 80, monkeypatch))


# ---- examples -------------------------------------------------------------------------------------------------------

EXAMPLES = [
    pytest.param(names, meaning, line, id=line)
    for names, command in ALL.items()
    for meaning, line in getattr(command, "examples", ())
]


def parsed(line: str) -> list[list[str]]:
    """The names of the commands in a line of a shell that are ours, each parsed by click."""
    words = shlex.split(line.replace('"$(', "; ").replace(')"', ""), posix=True)
    found: list[list[str]] = []
    for word in words:
        if word in ("|", "&&", ";"):
            found.append([])
        else:
            found = found or [[]]
            found[-1].append(word)
    return [_parse(argv[1:]) for argv in found if argv and argv[0] == "preforkd"]


def _parse(argv: list[str]) -> list[str]:
    context, names = preforkd.make_context("preforkd", argv), []
    while isinstance(context.command, click.Group):
        names_first = "_protected_args" if hasattr(context, "_protected_args") else "protected_args"  # click 8.1
        rest = [*getattr(context, names_first), *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None and name is not None
        names.append(name)
        context = command.make_context(name, rest, parent=context)
    return names


@pytest.mark.parametrize("names", [names for names in ALL if names], ids=" ".join)
def test_every_command_has_an_example_of_itself(names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _files(tmp_path, monkeypatch)
    command = ALL[names]
    assert isinstance(command, Command)

    lines = [line for _meaning, line in command.examples]

    assert lines
    assert all(any(found[: len(names)] == list(names) for found in parsed(line)) for line in lines)


@pytest.mark.parametrize(("names", "meaning", "line"), EXAMPLES)
def test_an_example_can_be_typed(
    names: Names, meaning: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files(tmp_path, monkeypatch)

    assert parsed(line)
    assert [f"  # {meaning}", f"  {line}"] in [list(pair) for pair in pairwise(_help(names, 60, monkeypatch))]


@pytest.mark.parametrize("line", ["preforkd stats", "preforkd exits --bool email", "preforkd scale email many"])
def test_a_stale_example_would_be_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parsed(line)


def _files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that examples name."""
    monkeypatch.chdir(folder)
    for name in ("jobs.txt", "a.json", "b.json"):
        (folder / name).touch()


# ---- global options -------------------------------------------------------------------------------------------------

GLOBAL = [option for option in global_options() if isinstance(option, click.Option)]
ARGUMENTS: dict[Names, list[str]] = {
    ("completion",): ["bash"],
    ("inbox", "sql"): ["--dialect", "mysql"],
    ("pause",): ["p"],
    ("resume",): ["p"],
    ("retry",): ["p"],
    ("scale",): ["p", "1"],
    ("publish",): ["q"],
    ("why",): ["p"],
    ("dead", "list"): ["q"],
    ("dead", "show"): ["q", "id"],
    ("dead", "retry"): ["q", "id"],
    ("dead", "drop"): ["q", "id"],
    ("pending", "list"): ["p"],
    ("pending", "drop"): ["p", "id"],
    ("fleet", "forget"): ["host"],
}
"""What a command needs to be parsed."""


def _run(argv: list[str], names: Names, monkeypatch: pytest.MonkeyPatch) -> Invocation:
    """The invocation that a command sees."""
    seen: list[Invocation] = []

    def command(*_args: object, **_options: object) -> None:
        seen.append(click.get_current_context().ensure_object(Invocation))

    monkeypatch.setattr(LEAVES[names], "callback", command)
    preforkd.main(argv, prog_name="preforkd", standalone_mode=False)
    return seen[0]


@pytest.mark.parametrize("option", GLOBAL, ids=lambda option: option.opts[0])
@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_a_global_option_stands_before_or_after_every_command(
    names: Names, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, arguments = option.opts[0], ARGUMENTS.get(names, [])
    for argv in (
        [name, "/x", *names, *arguments],
        [*names, name, "/x", *arguments],
        [*names, *arguments, f"{name}=/x"],
        [*names[:1], name, "/x", *names[1:], *arguments],
    ):
        assert getattr(_run(argv, names, monkeypatch), str(option.name)) == "/x"
    assert getattr(_run([*names, *arguments], names, monkeypatch), str(option.name)) is None


@pytest.mark.parametrize("option", GLOBAL, ids=lambda option: option.opts[0])
@pytest.mark.parametrize("names", [("status",), ("dead", "list")], ids=" ".join)
def test_of_a_global_option_given_twice_the_later_counts(
    names: Names, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, arguments = option.opts[0], ARGUMENTS.get(names, [])

    argv = [name, "/a", names[0], name, "/b", *names[1:], *arguments, name, "/c"]

    assert getattr(_run(argv, names, monkeypatch), str(option.name)) == "/c"


def test_every_command_is_made_in_the_same_way() -> None:
    assert {type(command) for command in LEAVES.values()} == {Command}
    assert all(isinstance(command, Group) for names, command in ALL.items() if names not in LEAVES)


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_no_help_shows_a_limit_as_a_formula(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "x>" not in "\n".join(_help(names, 80, monkeypatch))


@pytest.mark.parametrize(("words", "told"), [("-1", "-1 is less than 0"), ("ten", "'ten' is not a whole number")])
def test_a_number_that_an_option_cannot_have_is_told_with_the_limit(words: str, told: str) -> None:
    with pytest.raises(click.BadParameter, match=told):
        preforkd.main(["exits", "-n", words], prog_name="preforkd", standalone_mode=False)
