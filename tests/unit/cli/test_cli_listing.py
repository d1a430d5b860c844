"""The list, the choice and the question of commands about chosen messages: what is said, and how they end."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable

import click
import pytest

from supervisor.cli.console import Declined, ask_first, check_choice, print_json, print_list, report_missing

Asked = Callable[[str], Declined | None]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Asks with this input, as a command does; gives back what ends the command, None after a yes."""

    def ask(answer: str) -> BaseException | None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        try:
            ask_first("Drop 2 messages?", "nothing was dropped")
        except Declined as error:
            return error
        return None

    return ask


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "what\ny\n"])
def test_after_a_yes_it_is_done(answer: str, asked: Asked) -> None:
    assert asked(answer) is None


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_after_a_no_it_is_not_done(answer: str, asked: Asked) -> None:
    error = asked(answer)

    assert isinstance(error, Declined)
    assert str(error) == "nothing was dropped: the answer was no"
    assert error.exit_code == 130


def test_without_input_it_is_not_done_and_the_option_is_named(asked: Asked) -> None:
    error = asked("")

    assert isinstance(error, Declined)
    assert str(error) == "nothing was dropped: the question had no answer (no more input); --yes asks nothing"


@pytest.mark.parametrize(("ids", "everything"), [((), False), (("a",), True)])
def test_neither_and_both_are_no_choice(ids: tuple[str, ...], everything: bool) -> None:
    with pytest.raises(click.UsageError, match="name the IDs of messages, or --all"):
        check_choice(ids, everything)


@pytest.mark.parametrize(("ids", "everything"), [((), True), (("a", "b"), False)])
def test_ids_or_all_are_a_choice(ids: tuple[str, ...], everything: bool) -> None:
    check_choice(ids, everything)


def test_every_id_that_was_not_found_is_complained_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_missing(["b", "a", "b", "c"], ["c", None], "no message {}".format) == 1

    assert capsys.readouterr() == ("", "error: no message a\nerror: no message b\n")


def test_an_id_cannot_write_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report_missing(["\x1b[2J\r\x07"], [], "no message {}".format)

    assert {"\x1b", "\r", "\x07"}.isdisjoint(capsys.readouterr().err)


def test_all_found_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_missing(["a"], ["a", "b"], "no message {}".format) == 0
    assert capsys.readouterr() == ("", "")


def listed(found: list[str], total: int, capsys: pytest.CaptureFixture[str], more: str = "") -> str:
    print_list(["ID", "LENGTH"], found, lambda each: (each, len(each)), total, "no dead letters", more)
    return capsys.readouterr().out


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed([], 0, capsys) == "no dead letters\n"


def test_a_part_says_how_much_it_is_and_how_to_see_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(["abc"], 5, capsys, "-n 0 shows all").splitlines()

    assert lines[0].split() == ["ID", "LENGTH"]
    assert lines[1].split() == ["abc", "3"]
    assert lines[2] == "1 of 5 shown; -n 0 shows all"


def test_a_part_of_nothing_is_not_called_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed([], 5, capsys) == "0 of 5 shown\n"


def test_json_lines_are_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(["a", "b"], lambda each: {"id": each}, 3, "-n 0 shows all")

    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [{"id": "a"}, {"id": "b"}]
    assert err == "2 of 3 shown; -n 0 shows all\n"
