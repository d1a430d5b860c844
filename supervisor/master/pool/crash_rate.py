"""The rate of unplanned exits of a pool: a symptom even if workers finish messages in between. Pure; master only.

Back-off and holds count deaths without progress. Workers that finish messages and crash every other second make
progress, and so are replaced at once. This symptom reports the fault in their messages or their code.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from supervisor.config.schema import PoolConfig
from supervisor.logs.events import Cause, Event
from supervisor.master.pool.exit_records import ExitRecord
from supervisor.quantities import show_seconds
from supervisor.symptoms import Symptoms

_PLANNED = frozenset({Cause.CLEAN_STOP, Cause.RECYCLED, Cause.STOP_KILLED, Cause.LOST})
_NAMED = 3
_CALM = 0.5
"""The symptom heals at this share of the number of exits that causes it: else it would come and go."""


class _Exit(NamedTuple):
    at_s: float
    how: str
    message_id: str
    progressed: bool


class Allowance(NamedTuple):
    """How many exits are no symptom: `restart_intensity`, with `share` times as many in `stretch` times the time."""

    event: Event
    what: str
    share: float = 1.0
    stretch: float = 1.0
    one_each: bool = True  # and at least one for each worker


ALL_CHILDREN = Allowance(Event.POOL_CRASHING, "unplanned exits")
SERVICES = Allowance(Event.SERVICE_CRASHING, "unplanned exits of forkserver and consumer", 0.5, 10.0, one_each=False)
"""Each death of a consumer ends its connection: fewer are allowed, in a longer time."""


class CrashRate:
    """The unplanned exits of one pool, or of its services alone. Times are CLOCK_MONOTONIC."""

    def __init__(self, allowance: Allowance = ALL_CHILDREN) -> None:
        self._allowance = allowance
        self._exits: deque[_Exit] = deque()
        self._kinds: deque[tuple[float, str]] = deque()
        self._within_s = 0.0

    def add(self, record: ExitRecord, progressed: bool, now_s: float) -> None:
        """A child of the pool has left; `progressed`: after it had made progress (`restarts.py`)."""
        if record.cause not in _PLANNED:
            how = f"{record.cause} ({record.ending})"
            self._exits.append(_Exit(now_s, how, record.message_id, progressed))

    def add_kind(self, kind: str, now_s: float) -> None:
        """A worker died of a message of this `kind`, as its consumer names it: `type 'resize'`."""
        self._kinds.append((now_s, kind))

    def judge(self, config: PoolConfig, symptoms: Symptoms, now_s: float) -> None:
        """Notice the symptom when there are more exits than `restart_intensity` says, and than workers; heal it.

        Where all of them were without progress, back-off and hold say so.
        """
        allowance, (count, within_s) = self._allowance, config.restart_intensity
        self._within_s = within_s * allowance.stretch
        while self._exits and self._exits[0].at_s < now_s - self._within_s:
            self._exits.popleft()
        while self._kinds and self._kinds[0][0] < now_s - self._within_s:
            self._kinds.popleft()
        most = max(count * allowance.share, config.workers if allowance.one_each else 0)
        if len(self._exits) > most and any(exit_.progressed for exit_ in self._exits):
            symptoms.notice(allowance.event, self._text(), degrades=True)
        elif len(self._exits) <= most * _CALM:
            symptoms.heal(allowance.event)

    @property
    def due_s(self) -> float:
        """When the oldest of them is forgotten."""
        return self._exits[0].at_s + self._within_s if self._exits else float("inf")

    def _text(self) -> str:
        ways = Counter(exit_.how for exit_ in self._exits)
        said = ", ".join(f"{number} x {how}" for how, number in ways.most_common(_NAMED))
        text = f"{len(self._exits)} {self._allowance.what} within {show_seconds(self._within_s)}: {said}"
        shared = self._shared() if self._allowance.one_each else "each death of a consumer ends its connection"
        return f"{text}; {shared or 'no message is part of more than one of them'}; `preforkd exits` has them all"

    def _shared(self) -> str:
        """The common traits of the messages that were running."""
        ids = Counter(repr(exit_.message_id) for exit_ in self._exits if exit_.message_id)
        kinds = Counter(kind for _at_s, kind in self._kinds)
        said = {"the same messages: ": _often(ids), "messages of ": _often(kinds)}
        shared = " and ".join(what + often for what, often in said.items() if often)
        return f"while they ran {shared}" if shared else ""


def _often(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({number} times)" for name, number in counts.most_common(_NAMED) if number > 1)
