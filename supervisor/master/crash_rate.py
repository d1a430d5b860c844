"""The rate of unplanned exits of a pool: a symptom of its own, whatever workers finish between them. Pure; master only.

Back-off and holds count deaths without progress. Workers that finish messages and crash every other second make
progress, and so are replaced at once; that something is wrong with their messages or their code must be said.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from supervisor.config.schema import PoolConfig
from supervisor.events import Cause, Event
from supervisor.master.records import ExitRecord
from supervisor.quantities import show_seconds
from supervisor.symptoms import Symptoms

_PLANNED = frozenset({Cause.CLEAN_STOP, Cause.RECYCLED, Cause.STOP_KILLED, Cause.LOST})
_NAMED = 3
_CALM = 0.5
"""It has healed when no more than this part of what makes the symptom is left: else it would come and go."""


class _Exit(NamedTuple):
    at_s: float
    how: str
    message_id: str
    progressed: bool


class CrashRate:
    """The unplanned exits of one pool within the time of `restart_intensity`. Times are CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self._exits: deque[_Exit] = deque()
        self._kinds: deque[tuple[float, str]] = deque()
        self._within_s = 0.0

    def add(self, record: ExitRecord, progressed: bool, now_s: float) -> None:
        """A child of the pool has left; `progressed`: after it had made progress (`restarts.py`)."""
        if record.cause not in _PLANNED:
            how = f"{record.cause} ({record.ending})"
            self._exits.append(_Exit(now_s, how, record.message_id, progressed))

    def add_kind(self, kind: str, now_s: float) -> None:
        """A worker died of a message of this kind, as its consumer names it: `type 'resize'`."""
        self._kinds.append((now_s, kind))

    def judge(self, config: PoolConfig, symptoms: Symptoms, now_s: float) -> None:
        """Notice the symptom when there are more exits than `restart_intensity` says, and than workers; heal it.

        Where all of them were without progress, back-off and hold say so.
        """
        count, self._within_s = config.restart_intensity
        while self._exits and self._exits[0].at_s < now_s - self._within_s:
            self._exits.popleft()
        while self._kinds and self._kinds[0][0] < now_s - self._within_s:
            self._kinds.popleft()
        most = max(count, config.workers)
        if len(self._exits) > most and any(exit_.progressed for exit_ in self._exits):
            symptoms.notice(Event.POOL_CRASHING, self._text(), degrades=True)
        elif len(self._exits) <= most * _CALM:
            symptoms.heal(Event.POOL_CRASHING)

    @property
    def due_s(self) -> float:
        """When the oldest of them is forgotten."""
        return self._exits[0].at_s + self._within_s if self._exits else float("inf")

    def _text(self) -> str:
        ways = Counter(exit_.how for exit_ in self._exits)
        said = ", ".join(f"{number} x {how}" for how, number in ways.most_common(_NAMED))
        text = f"{len(self._exits)} unplanned exits within {show_seconds(self._within_s)}: {said}"
        return f"{text}; {self._shared() or 'no message is in more than one of them'}; `preforkd exits` has them all"

    def _shared(self) -> str:
        """What the messages that were running have in common."""
        ids = Counter(repr(exit_.message_id) for exit_ in self._exits if exit_.message_id)
        kinds = Counter(kind for _at_s, kind in self._kinds)
        said = {"the same messages: ": _often(ids), "messages of ": _often(kinds)}
        shared = " and ".join(what + often for what, often in said.items() if often)
        return f"while they ran {shared}" if shared else ""


def _often(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({number} times)" for name, number in counts.most_common(_NAMED) if number > 1)
