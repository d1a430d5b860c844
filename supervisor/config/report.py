"""The problems of one configuration file, collected while it is read. Used by the readers in this folder only.

A place is a tuple of keys and indexes; from it come the path that users see, the value as they wrote it (before
`${VAR}` was filled in, secrets struck out), and the answer to "is this value wrong already?", so that one mistake is
not reported twice.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from supervisor.errors import Problem
from supervisor.logs.redaction import MASK, redact

Place = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SECRET_KEY = re.compile("environment|pass|secret|token|webhook", re.IGNORECASE)
_SHOWN_CHARACTERS = 80


class Report:
    """The problems of a file. `tree` is the file as parsed from TOML, used to show values."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree
        self._found: list[tuple[Place, Problem]] = []

    def add(self, place: Place, reason: str, hint: str = "", default: str = "") -> None:
        """Record a problem, with a `hint` what to do. `default`: the value shown if the file has none."""
        value = _shown(place, self._tree) or (f"{default} (default)" if default else "")
        self._found.append((place, Problem(show_place(place), value, reason, hint)))

    def value(self, place: Place) -> Any:
        """What the file has at a place, as parsed from TOML; None for nothing."""
        return _at(place, self._tree)

    @property
    def problems(self) -> list[Problem]:
        """All problems, in the order of the file."""
        return [problem for _, problem in sorted(self._found, key=lambda found: self._order(found[0]))]

    def wrong(self, place: Place) -> bool:
        """Whether a problem was found at this place or within it."""
        return any(known[: len(place)] == place for known, _ in self._found)

    def wrong_itself(self, place: Place) -> bool:
        """Whether a problem was found at this very place: a section that is no table, for one."""
        return any(known == place for known, _ in self._found)

    def _order(self, place: Place) -> list[int]:
        order, table = [], self._tree
        for step in place:
            keys = list(table) if isinstance(table, dict) else []
            order.append(step if isinstance(step, int) else keys.index(step) if step in keys else len(keys))
            table = table[step] if isinstance(table, dict) and step in table else {}
        return order


def show_place(place: Place) -> str:
    """A place as users read it: `pools.email.bindings[0].exchange`."""
    shown = ""
    for step in place:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            shown += ("." if shown else "") + (step if _BARE_KEY.fullmatch(step) else json.dumps(step))
    return shown


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`did you mean "timeout"?` for a `word` that is similar to a `known` one, else ""."""
    near = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def _at(place: Place, tree: Any) -> Any:
    for step in place:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _shown(place: Place, tree: Any) -> str:
    value = _at(place, tree)
    if value is None or isinstance(value, dict):
        return ""
    if any(_SECRET_KEY.search(str(step)) for step in place):
        return MASK
    text = json.dumps(_redacted(value), ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _redacted(value: Any) -> Any:
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redact(value) if isinstance(value, str) else value
