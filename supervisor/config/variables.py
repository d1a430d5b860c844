"""Fills in `${VAR}` in the texts of a configuration, from the environment and from `env_file`.

Used by the loader, in the command line and in the master. The file is read when a variable is asked for that the
environment does not have: a command that needs none works although the file cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from supervisor.config.env_file import BadLine, parse
from supervisor.config.report import Place, Report
from supervisor.config.secrets import read_secret
from supervisor.config.text import NoText
from supervisor.errors import Problem

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLAIN = "write $${ for a plain ${"


class Variables:
    """The variables of one configuration: those of `environment`, and those of `file` that it does not have.

    `file`: `env_file`, None where there is none. `owner`: a uid that the file may belong to, besides root's. `problem`:
    why the path of the file is not known.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        file: Path | None = None,
        owner: int | None = None,
        problem: Problem | None = None,
    ) -> None:
        self._environment = environment
        self._file = file
        self._owner = owner
        self._problem = problem
        self._bad_lines: list[BadLine] = []

    @cached_property
    def added(self) -> dict[str, str]:
        """The variables of the file that the environment does not have; {} where the file cannot be read."""
        if self._file is None:
            return {}
        try:
            parsed = parse(read_secret(self._file, self._owner))
        except NoText as error:
            self._problem = Problem("", "", error.reason, error.hint)
            return {}
        self._bad_lines = parsed.problems
        return {name: value for name, value in parsed.variables.items() if name not in self._environment}

    def report_file(self, place: Place, report: Report) -> None:
        """Read the file, and report why it cannot be used. `place`: of the key that names it."""
        self.added  # noqa: B018  (reads the file)
        if self._problem is not None:
            report.add(place, self._problem.reason, self._problem.hint)
        for line in self._bad_lines:
            report.add(place, f"{self._file} {line}", line.hint)

    def get(self, name: str) -> str | None:
        """The value of a variable; None for one that is not set."""
        return self._environment[name] if name in self._environment else self.added.get(name)

    def why_unset(self, name: str) -> str:
        """Why a variable has no value."""
        unset = f"the environment variable {name} is not set"
        if self._problem is not None:
            return f"{unset}, and env_file cannot be used: {self._problem.reason}"
        if self._file is None:
            return unset
        bad = next((line for line in self._bad_lines if line.name == name), None)
        return f"{unset}, and {self._file} {bad or 'does not have it, either'}"


def filled_in(value: Any, variables: Variables, report: Report, place: Place = ()) -> Any:
    """`value` (parsed TOML of any depth) with `${VAR}` filled in from `variables`; problems go to the report.

    `$${VAR}` stands for the text `${VAR}` itself; a lone `$` is nothing special. Keys are never filled in. An unset
    variable is a problem, not an empty string: a daemon must not start with half a password. `${VAR:-text}` names the
    text for a variable that is unset or empty, as in a shell.
    """
    if isinstance(value, dict):
        return {key: filled_in(item, variables, report, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [filled_in(item, variables, report, (*place, at)) for at, item in enumerate(value)]
    return _filled_in_text(value, variables, report, place) if isinstance(value, str) else value


def _filled_in_text(text: str, variables: Variables, report: Report, place: Place) -> str:
    def replacement(match: re.Match[str]) -> str:
        escaped, inner = match.groups()
        if escaped:
            return match[0][1:]
        name, instead, default = inner.partition(":-")
        if not _NAME.fullmatch(name):
            report.add(place, f'"{name}" in ${{...}} is no variable name', _PLAIN)
            return ""
        value = variables.get(name)
        if value is not None and not _is_unicode(value):
            report.add(place, f"the environment variable {name} is not UTF-8")
        elif value is None and not instead:
            report.add(place, variables.why_unset(name), _PLAIN)
        return value or default

    return _VARIABLE.sub(replacement, text)


def values_in(text: str, filled: str) -> list[str]:
    """The values of the variables in `text`, as `filled_in` has put them in; [] if it has none, or `filled` is another.

    Of two variables with nothing between them the first one is taken for empty.
    """
    pattern, end = "", 0
    for match in _VARIABLE.finditer(text):
        plain = match[0][1:] if match[1] else ""
        pattern += re.escape(text[end : match.start()] + plain) + ("" if match[1] else "(.*?)")
        end = match.end()
    found = re.fullmatch(pattern + re.escape(text[end:]), filled, re.DOTALL)
    return list(found.groups()) if found else []


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False
