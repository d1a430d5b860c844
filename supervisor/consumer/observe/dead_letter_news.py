"""What the master is told of messages that were given up (dead-lettered, parked), for the hooks. Pure; consumer only.

Bounded: a queue of which everything fails must not fill the channel to the master, so that of each turn the first few
are named and the rest is counted. Best effort: the letters themselves are in their queues.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from supervisor.consumer.turn.actions import Say
from supervisor.link.frames import Letters
from supervisor.logs.events import Event

NAMED = 20
"""How many letters of one turn are named."""

_LETTERS = frozenset({Event.MESSAGE_DEAD, Event.MESSAGE_PARKED})
_REASON_CHARACTERS = 1000


class DeadLetterNews:
    """Gathers what was said in a turn, once it is durable."""

    def __init__(self) -> None:
        self._named: list[dict[str, Any]] = []
        self._more = 0

    def gather(self, said: Iterable[Say]) -> None:
        """Take what concerns letters."""
        for saying in said:
            if saying.event in _LETTERS:
                if len(self._named) < NAMED:
                    self._named.append(_facts(saying))
                else:
                    self._more += 1

    def take(self) -> Letters | None:
        """All of it, once; None when there is nothing."""
        if not self._named:
            return None
        news = Letters(self._named, self._more)
        self._named, self._more = [], 0
        return news


def _facts(saying: Say) -> dict[str, Any]:
    fields = saying.fields
    return {
        "event": str(saying.event),
        "message_id": fields["message_id"],
        "round": fields["round"],
        "attempts": fields["attempt"],
        "cause": fields["cause"],
        "reason": fields["reason"][:_REASON_CHARACTERS],
        "status": fields["status"],
        "signal": fields["signal"],
        "worker": fields["worker"],
    }
