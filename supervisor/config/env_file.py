"""Reads a file of environment variables: the lines that systemd, Docker and dotenv readers all read alike. Pure.

Used by the command line and, at a reload, by the master. A line that these readers take for different values is
refused with the reason: the same file can then serve `EnvironmentFile=`, `docker run --env-file` and preforkd, and a
password never differs between them. No problem ever holds a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BLANKS = " \t"
_SHOWN_CHARACTERS = 40


class BadLine(NamedTuple):
    """A line that is refused. `number`: from 1 on; `name`: of its variable, "" where it has none."""

    number: int
    name: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"line {self.number}{f', {self.name}' if self.name else ''}: {self.reason}"


class Parsed(NamedTuple):
    """What a file has: its variables, and the lines that were refused."""

    variables: dict[str, str]
    problems: list[BadLine]


def parse(text: str) -> Parsed:
    """The variables in the text of a file; of a name that comes twice the last one, as all readers have it.

    Sources: systemd.exec(5) `EnvironmentFile=` and systemd's env-file.c; docker/cli `kvfile`; python-dotenv's parser.
    """
    variables: dict[str, str] = {}
    problems: list[BadLine] = []
    for number, line in enumerate(text.split("\n"), 1):
        content = line.removesuffix("\r").lstrip(_BLANKS)
        if not content.strip() or content.startswith("#"):
            problems.extend(BadLine(number, "", *refused) for refused in _judged(content, _COMMENT_RULES))
            continue
        name, equals, value = content.partition("=")
        refused = list(_judged(name if equals else content, _NAME_RULES)) if equals else [_NO_VALUE]
        refused = refused or list(_judged(value, _VALUE_RULES))
        if refused:
            problems.append(BadLine(number, name if equals and _NAME.fullmatch(name) else "", *refused[0]))
        else:
            variables[name] = value
    return Parsed(variables, problems)


class _Rule(NamedTuple):
    breaks: Callable[[str], object]
    reason: str
    hint: str


def _judged(text: str, rules: tuple[_Rule, ...]) -> Iterator[tuple[str, str]]:
    return ((rule.reason, rule.hint) for rule in rules if rule.breaks(text))


def _has_control(text: str) -> bool:
    return any(ord(char) < 32 and char != "\t" for char in text) or "\x7f" in text


_NO_VALUE = (
    "there is no = in it: Docker takes such a variable from its own environment, systemd ignores the line",
    "write NAME=value",
)

_CONTROL = _Rule(_has_control, "contains a control character", "write text, one variable a line")

_COMMENT_RULES = (
    _Rule(
        lambda line: line.endswith("\\"),
        "a comment that ends with \\ hides the next line from systemd",
        "remove the \\",
    ),
)

_NAME_RULES = (
    _Rule(
        lambda name: name.startswith(";"),
        "a line that begins with ; is a comment for systemd only",
        "begin a comment with #",
    ),
    _Rule(
        lambda name: re.match(r"export[ \t]", name),
        "begins with export, which systemd and Docker do not know",
        "write NAME=value",
    ),
    _Rule(
        lambda name: name != name.rstrip(_BLANKS),
        "a blank before the = is refused by Docker, ignored by systemd",
        "write NAME=value",
    ),
    _Rule(
        lambda name: not _NAME.fullmatch(name),
        "what is before the = is no variable name",
        "a name has letters of ASCII, digits and _, and begins with no digit",
    ),
)

_VALUE_RULES = (
    _CONTROL,
    _Rule(
        lambda value: value != value.strip(_BLANKS),
        "a blank at an end of the value: Docker keeps it, systemd removes it",
        "remove the blank",
    ),
    _Rule(
        lambda value: value[:1] in ("'", '"'),
        "the value begins with a quote: Docker keeps it, systemd removes it",
        "remove the quotes: a value with blanks in it needs none",
    ),
    _Rule(
        lambda value: "\\" in value,
        "a \\ in the value: systemd takes it for an escape, Docker for itself",
        "in a URL write %5C; for other values use the real environment or a file",
    ),
    _Rule(
        lambda value: re.search(r"[ \t]#", value),
        "a # behind a blank: part of the value for systemd and Docker, a comment for dotenv",
        "put the comment on a line of its own; in a URL write %23",
    ),
    _Rule(
        lambda value: "${" in value,
        "${ in the value: dotenv fills in a variable, systemd and Docker keep it",
        "write the value itself; in a URL write %24 for $",
    ),
)
