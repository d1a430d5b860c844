"""A file of environment variables: what all readers read alike is taken, any other line is named and refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.env_file import parse

ALIKE = [
    ("A=b", {"A": "b"}),
    ("A=", {"A": ""}),
    ("A=b=c", {"A": "b=c"}),
    ("A=two words", {"A": "two words"}),
    ("A=it's 5\" wide", {"A": "it's 5\" wide"}),
    ("A=b#c", {"A": "b#c"}),
    ("A=#b", {"A": "#b"}),
    ("A=$5", {"A": "$5"}),
    ("A=a\tb", {"A": "a\tb"}),
    ("A=héllo", {"A": "héllo"}),
    ("  A=b", {"A": "b"}),
    ("_a9=b", {"_a9": "b"}),
    ("A=amqp://u:p%40ss@h:5672/v%2Fw?x=1", {"A": "amqp://u:p%40ss@h:5672/v%2Fw?x=1"}),
    ("A=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
    ("# A=b\n\n   \n  # c\nD=e", {"D": "e"}),
    ("#", {}),
    ("", {}),
    ("A=1\nA=2", {"A": "2"}),
]
"""A text that systemd, Docker and dotenv readers take for the same variables."""


@pytest.mark.parametrize(("text", "variables"), ALIKE)
def test_lines_that_all_readers_read_alike_are_taken(text: str, variables: dict[str, str]) -> None:
    assert parse(text) == (variables, [])


REFUSED = [
    ('A="secret"', "A", "begins with a quote", "remove the quotes"),
    ("A='secret'", "A", "begins with a quote", "remove the quotes"),
    ('A="', "A", "begins with a quote", "remove the quotes"),
    ("A=secret\\n", "A", "a \\ in the value", "%5C"),
    ("A=secret\\", "A", "a \\ in the value", "%5C"),
    ("A= secret", "A", "a blank at an end of the value", "remove the blank"),
    ("A=secret ", "A", "a blank at an end of the value", "remove the blank"),
    ("A=secret\t\r", "A", "a blank at an end of the value", "remove the blank"),
    ("A =secret", "", "a blank before the =", "write NAME=value"),
    ("export A=secret", "", "begins with export", "write NAME=value"),
    ("A", "", "there is no =", "write NAME=value"),
    ("secret words", "", "there is no =", "write NAME=value"),
    ("=secret", "", "no variable name", "letters of ASCII"),
    ("9A=secret", "", "no variable name", "letters of ASCII"),
    ("Ä=secret", "", "no variable name", "letters of ASCII"),
    ("A.B=secret", "", "no variable name", "letters of ASCII"),
    ("A B=secret", "", "no variable name", "letters of ASCII"),
    ("; A=secret", "", "begins with ;", "begin a comment with #"),
    ("A=secret # why", "A", "a # behind a blank", "a line of its own"),
    ("A=${B}secret", "A", "${ in the value", "%24"),
    ("A=sec\0ret", "A", "a control character", "write text"),
    ("A=sec\rret", "A", "a control character", "write text"),
    ("A=sec\x1b[2Jret", "A", "a control character", "write text"),
    ("# a comment \\", "", "ends with \\", "remove the \\"),
]


@pytest.mark.parametrize(("line", "name", "reason", "hint"), REFUSED)
def test_a_line_that_readers_read_differently_is_refused_without_its_value(
    line: str, name: str, reason: str, hint: str
) -> None:
    variables, problems = parse(f"FIRST=1\n{line}\nLAST=3\n")

    assert variables == {"FIRST": "1", "LAST": "3"}
    assert [(problem.number, problem.name) for problem in problems] == [(2, name)]
    assert reason in problems[0].reason
    assert hint in problems[0].hint
    assert "secret" not in f"{problems[0]}{problems[0].hint}"
    assert str(problems[0]).startswith(f"line 2, {name}: " if name else "line 2: ")


def test_each_bad_line_is_named_once() -> None:
    problems = parse('A="b" \\ # c ${d}\nexport "E" = f\n').problems

    assert [problem.number for problem in problems] == [1, 2]


@given(st.text())
def test_any_text_is_taken_or_refused_line_by_line(text: str) -> None:
    variables, problems = parse(text)

    assert len(variables) + len(problems) <= text.count("\n") + 1
    for name, value in variables.items():
        assert f"{name}={value}" in text
