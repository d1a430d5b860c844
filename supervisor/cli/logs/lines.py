"""One line of a log in any of its forms: JSON, console, printed text, an entry of the journal. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.cli.console import block, shown
from supervisor.logs.readable import HEAD, readable
from supervisor.system.clock import rfc3339

_CLOCK = "%Y-%m-%d %H:%M:%S"
_LEVELS = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
"""By priority, as syslog(3) has them."""

_OF_A_POOL = ("worker", "standby", "consumer", "forkserver")
_CONSOLE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} [a-z]+ +(?P<process>[^\[]*)\[\d+\] .*")
_FIELD = "PREFORKD_"


@dataclass(frozen=True)
class Line:
    """`text`: as it was found; `facts`: the fields of a structured line, None for any other text."""

    text: str
    facts: Mapping[str, Any] | None = None


def line_of(data: bytes) -> Line:
    """A line of a file, given without its end."""
    text = data.decode(errors="backslashreplace")
    if not text.startswith("{"):
        return Line(text)
    try:
        found = json.loads(text)
        readable(found)
    except (
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        RecursionError,
    ):  # a handler has printed JSON of its own, or a torn line
        return Line(text)
    return Line(text, found)


def line_of_entry(entry: Mapping[str, Any]) -> Line:
    """An entry of the journal, as `journalctl --output=json --all` prints it (systemd.io/JOURNAL_EXPORT_FORMATS)."""
    text = _text(entry.get("MESSAGE"))
    inner = line_of(text.encode())
    if inner.facts is not None:
        return inner
    fields = {name.removeprefix(_FIELD).lower(): _text(entry[name]) for name in entry if name.startswith(_FIELD)}
    for field in fields.values():
        if "\n" in field:  # journald is given such texts twice (supervisor/logs/journal.py)
            text = text.replace(f"\n{field}", "")
    if fields.get("pool") == _pool_of(fields.get("process", "")):  # added for journalctl; no field of the line
        fields.pop("pool", None)
    head = (
        rfc3339(int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6),
        _LEVELS[int(entry.get("PRIORITY", 6)) % len(_LEVELS)],
        fields.get("event", ""),
        text,
        fields.get("process") or _text(entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM")),
        int(pid) if (pid := fields.get("pid") or _text(entry.get("_PID"))).isdecimal() else "",
    )
    return Line(text, fields | dict(zip(HEAD, head, strict=True)))


def is_about(line: Line, pool: str) -> bool:
    """Whether the line names this pool, or a child of it has logged it."""
    if line.facts is None:
        found = _CONSOLE.fullmatch(line.text)
        return found is not None and (pool == _pool_of(found["process"]) or f"pool={pool}" in line.text.split("  "))
    return pool in (line.facts.get("pool"), _pool_of(str(line.facts["process"])))


def shown_line(line: Line) -> str:
    """The line as people read it, with the local time and its date."""
    return shown(line.text.expandtabs()) if line.facts is None else block(readable(line.facts, _CLOCK))


def _pool_of(process: str) -> str | None:
    """The pool of a process by its title: `email` for `worker email/3`."""
    kind, _, child = process.partition(" ")
    return child.partition("/")[0] if kind in _OF_A_POOL else None


def _text(value: Any) -> str:
    """The value of a journal's field: text, bytes as numbers, or several of these."""
    if isinstance(value, list):
        if all(isinstance(each, int) for each in value):
            return bytes(value).decode(errors="backslashreplace")
        return "\n".join(map(_text, value))
    return "" if value is None else str(value)
