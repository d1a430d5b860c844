"""Present faults of a pool as named symptoms: a shared type of master and consumer, shown by `status`.

A symptom has the name of its log event. It is logged once, and stays until it is healed. Each process keeps the
symptoms that it notices itself; the master joins both lists. Its text says what was observed, and what to do.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import msgspec

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.clock import wall_s


class Symptom(msgspec.Struct, frozen=True, array_like=True):
    """A fault of a pool. `name`: an Event's value; `degrades`: it makes the pool `degraded`; `since`: wall clock."""

    name: str
    text: str
    degrades: bool
    since: Annotated[float, msgspec.Meta(ge=0.0, le=1e10)]


class Symptoms:
    """The symptoms that one process notices in one pool. `fields`: added to their log lines."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._present: dict[Event, Symptom] = {}

    def notice(self, event: Event, text: str, degrades: bool = False) -> None:
        """Add a symptom, and log it if it is new. Of a present one only `text` and `degrades` change.

        `degrades`: it makes the pool `degraded`.
        """
        former = self._present.get(event)
        if former is None:
            log(event, text, level=logging.WARNING, **self._fields)
        self._present[event] = Symptom(str(event), text, degrades, former.since if former else wall_s())

    def heal(self, event: Event) -> None:
        """Remove a symptom, if it is present."""
        self._present.pop(event, None)

    @property
    def present(self) -> list[Symptom]:
        """All present symptoms, in the order in which they were noticed."""
        return list(self._present.values())
