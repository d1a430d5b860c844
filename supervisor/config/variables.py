"""`${VAR}` in the strings of a configuration file, filled in from the environment. Pure.

`$${VAR}` stands for the text `${VAR}` itself; a lone `$` is nothing special. Keys are never filled in. An unset
variable is a problem, not an empty string: a daemon must not start with half a password. `${VAR:-text}` names what
stands for a variable that is unset or empty, as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from supervisor.config.report import Place, Report

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def filled_in(value: Any, environment: Mapping[str, str], report: Report, place: Place = ()) -> Any:
    """`value` (parsed TOML of any depth) with variables of `environment` filled in; problems go to the report."""
    if isinstance(value, dict):
        return {key: filled_in(item, environment, report, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [filled_in(item, environment, report, (*place, at)) for at, item in enumerate(value)]
    return _filled_in_text(value, environment, report, place) if isinstance(value, str) else value


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _filled_in_text(text: str, environment: Mapping[str, str], report: Report, place: Place) -> str:
    def replacement(match: re.Match[str]) -> str:
        escaped, inner = match.groups()
        if escaped:
            return match[0][1:]
        name, instead, default = inner.partition(":-")
        if not _NAME.fullmatch(name):
            report.add(place, f'"{name}" in ${{...}} is no variable name', "write $${ for a plain ${")
        elif instead and _is_unicode(environment.get(name, "")):
            return environment.get(name) or default
        elif name not in environment:
            report.add(place, f"the environment variable {name} is not set", "write $${ for a plain ${")
        elif not _is_unicode(environment[name]):
            report.add(place, f"the environment variable {name} is not UTF-8")
        return environment.get(name, "")

    return _VARIABLE.sub(replacement, text)
