"""One line of `preforkd check`: how much it matters, what it is about, what to do."""

from __future__ import annotations

from enum import StrEnum
from functools import partial

import msgspec


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One line of the result. `status`: the exit code that an error asks for. `detail`: lines below it (a stack)."""

    level: Level
    subject: str
    text: str
    status: int = 1
    detail: str = ""


ok = partial(Finding, Level.OK)
warning = partial(Finding, Level.WARNING)
error = partial(Finding, Level.ERROR)
