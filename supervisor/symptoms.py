"""Present faults of a pool as named symptoms: a shared type of master and consumer, shown by `status`.

A symptom is named by its log event, is logged once, and stays until it is healed. Each process has the symptoms that it
notices itself; the master puts both lists together. A flag alone is no symptom: its text says what was seen, and what
to do.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.clock import wall_s


class Symptom(msgspec.Struct, frozen=True, array_like=True):
    """A fault of a pool: `name` is an Event's value, `text` is for people; while it `degrades`, the pool is
    `degraded`. `since`: wall clock, when it was noticed first."""

    name: str
    text: str
    degrades: bool
    since: float


class Symptoms:
    """The symptoms that one process sees in one pool. `fields` are added to their log lines."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._present: dict[Event, Symptom] = {}

    def notice(self, event: Event, text: str, degrades: bool = False) -> None:
        """It is there: logged if it was not before. A new text takes the place of the former one; `since` stays."""
        former = self._present.get(event)
        if former is None:
            log(event, text, level=logging.WARNING, **self._fields)
        self._present[event] = Symptom(str(event), text, degrades, former.since if former else wall_s())

    def heal(self, event: Event) -> None:
        """It is there no more."""
        self._present.pop(event, None)

    @property
    def present(self) -> list[Symptom]:
        """All there are now, the first noticed first."""
        return list(self._present.values())
