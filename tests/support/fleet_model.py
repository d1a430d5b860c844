"""The rules of the fleet ledger in plain Python: what a store must answer whose calls take place one after the other.

It knows no SQL and no locks. Tests compare PostgreSQL's answers with it. An epoch has its host's name and a number of
its own here, as PostgreSQL's numbers depend on the order of calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

from tests.support.fleet_store import Entry

PENDING = frozenset("RDP")
Run = tuple[int, int]
Epoch = tuple[str, int]
"""A host and the number of its registration."""


class Way(NamedTuple):
    """The row in the way."""

    state: str
    run: Run
    epoch: Epoch
    is_open: bool
    lost: bool = False


class Held(NamedTuple):
    """An open or a settled row."""

    run: Run
    state: str
    epoch: Epoch


class FleetModel:
    """The whole store. A call of an epoch that has ended gives the name of its error."""

    def __init__(self) -> None:
        self.live: dict[str, Epoch] = {}
        self.turns: dict[Epoch, int] = {}
        self.places: dict[str, str] = {}
        self.fenced: set[Epoch] = set()
        self.lost: set[Epoch] = set()
        self.registered: dict[str, int] = {}
        self.open: dict[int, Held] = {}
        self.settled: dict[int, list[Held]] = {}

    def copy(self) -> FleetModel:
        """Another with the same rows."""
        return deepcopy(self)

    # ---- calls ----------------------------------------------------------------------------------------------------

    def register(self, host: str, place: str, silent: tuple[Epoch, int] | None = None) -> Epoch | str:
        """The host's new epoch, or "blocked". `silent`: an epoch, and the turn at which it stood still."""
        former = self.live.get(host)
        if former is not None and self.places[host] != place and (former, self.turns[former]) != silent:
            return "blocked"
        self.fenced |= {former} if former is not None else set()
        self.registered[host] = self.registered.get(host, 0) + 1
        epoch = self.live[host] = (host, self.registered[host])
        self.places[host], self.turns[epoch] = place, 0
        for key, row in self.open.items():
            if row.epoch[0] == host:
                self.open[key] = row._replace(epoch=epoch)
        return epoch

    def forget(self, host: str) -> None:
        """An operator declares it lost."""
        if host in self.live:
            self.lost.add(self.live.pop(host))
        self.lost |= {epoch for epoch in self.fenced if epoch in self._with_rows() and epoch[0] == host}
        self.fenced -= self.lost

    def fence(self, me: Epoch, other: Epoch, seen: int) -> bool | str:
        """Whether `other` has ended by this call. `seen`: its turn."""
        if self.live.get(me[0]) != me:
            return "PF001"
        if self.live.get(other[0]) != other or self.turns[other] != seen:
            return False
        self.fenced.add(self.live.pop(other[0]))
        return True

    def lose(self, me: Epoch, other: Epoch) -> bool | str:
        """Whether `other` is lost by this call."""
        if self.live.get(me[0]) != me:
            return "PF001"
        if other not in self.fenced:
            return False
        self.fenced.remove(other)
        self.lost.add(other)
        return True

    def resume(self, me: Epoch) -> int | str:
        """The number of the next turn."""
        if self.live.get(me[0]) != me:
            return "PF001"
        self.turns[me] += 1
        return self.turns[me]

    def leave(self, me: Epoch, turn: int) -> bool | str:
        """Whether nothing is open."""
        if (error := self._begin(me, turn)) is not None:
            return error
        if any(row.epoch == me for row in self.open.values()):
            return False
        del self.live[me[0]]
        return True

    def turn(self, me: Epoch, claims: Iterable[Entry], settles: Iterable[Entry], turn: int) -> dict[int, Way] | str:
        """What is refused."""
        if (error := self._begin(me, turn)) is not None:
            return error
        answers = {e.key: self._claim(me, e.key, e.run, e.state) for e in claims}
        answers |= {e.key: self._settle(me, e.key, e.run, e.state) for e in settles}
        return {key: way for key, way in answers.items() if way is not None}

    def rows(self) -> dict[int, tuple[Held | None, tuple[Held, ...]]]:
        """The open row and the settled ones of each message that has any; the settled ones by run, then by age."""
        settled = {key: tuple(sorted(rows, key=lambda row: row.run)) for key, rows in self.settled.items()}
        return {key: (self.open.get(key), settled.get(key, ())) for key in self.open.keys() | settled.keys()}

    def _with_rows(self) -> set[Epoch]:
        return {row.epoch for row in self.open.values()}

    def _begin(self, me: Epoch, turn: int) -> str | None:
        if self.live.get(me[0]) != me:
            return "PF001"
        if self.turns[me] != turn:
            return "PF002"
        self.turns[me] += 1
        return None

    # ---- rules ----------------------------------------------------------------------------------------------------

    def _claim(self, me: Epoch, key: int, run: Run, state: str) -> Way | None:
        row = self.open.get(key)
        if row is None:
            if (way := self._settled_way(key, run, state)) is not None:
                return way
        elif not self._yields(row, me, run, state):
            return Way(row.state, row.run, row.epoch, True, row.epoch in self.lost)
        elif row.run < run and row.state in PENDING:
            self._write(key, row._replace(state=row.state.lower()))
        self.open[key] = Held(run, state if state in PENDING else "c", me)
        return None

    def _yields(self, row: Held, me: Epoch, run: Run, state: str) -> bool:
        """Whether an open row makes way."""
        if row.epoch == me:
            return run >= row.run
        if row.epoch not in self.lost or run < row.run:
            return False
        return run > row.run or (state in PENDING and row.state in ("c", state))

    def _settled_way(self, key: int, run: Run, state: str) -> Way | None:
        rows = self.settled.get(key, [])
        done = [row for row in rows if row.state == "o" and row.run[0] == run[0]]
        newest = max(enumerate(rows), key=lambda at: (at[1].run, at[0]), default=(0, None))[1]
        if done:
            newest = max(done, key=lambda row: row.run)
        elif newest is None or newest.run < run or (newest.run == run and _may_follow(newest.state, state)):
            return None
        return Way(newest.state, newest.run, newest.epoch, False)

    def _settle(self, me: Epoch, key: int, run: Run, state: str) -> Way | None:
        row = self.open.get(key)
        if row is None or row.epoch != me or row.run != run:
            if state == "u" or self._known(key, run, state):
                return None
            if (way := self._claim(me, key, run, state)) is not None:
                return way
        if state in PENDING:
            self.open[key] = Held(run, state, me)
            return None
        del self.open[key]
        if state != "u":
            self._write(key, Held(run, state, me))
        return None

    def _known(self, key: int, run: Run, state: str) -> bool:
        """Whether the same word was said before. To be gone must be the last one."""
        said = [row.state for row in self.settled.get(key, []) if row.run == run]
        return state in said[-1:] if state == "g" else state in said

    def _write(self, key: int, row: Held) -> None:
        self.settled.setdefault(key, []).append(row)


def _may_follow(settled: str, state: str) -> bool:
    """Whether another word about the same run counts: a message that was gone is decided again, a retry was lost."""
    return state.lower() in "rdp" if settled == "g" else settled == "r" and state == "g"
