"""A log line as people read it: `12:00:01.250 warning worker email/0[71] message.failed: text  key=value`. Pure.

Used by each process that logs to a terminal, and by `preforkd logs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

HEAD = ("at", "level", "event", "message", "process", "pid")
"""The fields that every line has, in this order."""

_USUAL = {"round": "1", "attempt": "1"}


def readable(line: Mapping[str, Any], clock: str = "%H:%M:%S") -> str:
    """The `line` without its empty fields, then its texts of several lines (stacks) indented below it.

    A line without an event (of user code) is shown without the pool and slot that its process names, and without the
    round or attempt 1.
    `clock`: the form of the local time, as of strftime; milliseconds follow. Raises KeyError, TypeError and ValueError
    for a line whose head is not complete.
    """
    facts = dict(line)
    at, level, event, message, process, pid = (facts.pop(name) for name in HEAD)
    time = datetime.fromisoformat(at).astimezone()
    shown = {
        name: value if isinstance(value, str) else str(value) for name, value in facts.items() if value is not None
    }
    if not event:
        shown = {name: text for name, text in shown.items() if not _is_known(name, text, process)}
    blocks = [text for text in shown.values() if "\n" in text]
    words = [f"{printable(name)}={printable(text)}" for name, text in shown.items() if text and "\n" not in text]
    what = f"{event + ': ' if event else ''}{message}"
    head = f"{time:{clock}}.{time.microsecond // 1000:03} {level:7} {process}[{pid}] {what}"
    return "\n    ".join(
        [
            "  ".join([printable(head), *words]),
            *(printable(text) for block in blocks for text in block.splitlines()),
        ]
    )


def _is_known(name: str, text: str, process: object) -> bool:
    _kind, _, child = str(process).partition(" ")  # `worker email/0`, `forkserver email`
    pool, _, slot = child.partition("/")
    return text == (_USUAL | {"pool": pool, "slot": slot}).get(name)


def printable(text: str) -> str:
    """Escape control characters: ids and errors come from outside."""
    return text if text.isprintable() else repr(text)[1:-1]
