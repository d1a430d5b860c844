"""A bench for the settlement: deliveries in, the turn's decisions out, its rows kept as a ledger would."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Delivery, Outgoing
from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.messages import NONE_EARLIER, Arrival, Earlier, Entry, Failure
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import Ack, Effect, PublishLater, Requeue, Say, Send
from supervisor.ledger.base import Row, RowState
from supervisor.link.frames import ConsumerFrame, Incarnation, Run, RunId
from supervisor.logs.events import Event
from supervisor.messages.message import Properties
from supervisor.scoreboard.words import OutcomeKind

QUEUE = "work"
W0, W1 = Incarnation(0, 7), Incarnation(1, 8)
RAISED = Failure("failed", "ValueError: no", "p/0", "Traceback ...")
KILLED = Failure("killed", "p/0 ended while running it: killed (SIGKILL)", "p/0", "", None, "SIGKILL")


def key_of(id: str, body: bytes = b"") -> bytes:
    """A key of the right shape: the id, then the content."""
    return id.encode().ljust(16, b"\0") + body.ljust(8, b"\0")[:8]


class Over(NamedTuple):
    """A turn that is over: what it decided, and what is left of it to be carried out now that it is durable."""

    said: list[Say]
    rows: dict[bytes, Row]
    counters: dict[str, int]
    effects: list[Effect]


class Bench:
    """One settlement and the rows it has made durable."""

    def __init__(self, dedupe: str = "keep", **pool: Any) -> None:
        self.pool = PoolConfig("p", QUEUE, "h:h", **pool)
        self._dedupe = dedupe
        self.settlement = Settlement(self.pool, "host", dedupe)
        self.settlement.decisions.now_s = 1000.0
        self.rows: dict[bytes, Row] = {}
        self.counters: dict[str, int] = {}
        self.last = Over([], {}, {}, [])
        self.epoch = 1
        self._tags = itertools.count(1)
        self._given = itertools.count(1)

    # ---- events ---------------------------------------------------------------------------------------------------

    def deliver(
        self,
        id: str | None = "m",
        run: tuple[int, int] | None = None,
        *,
        redelivered: bool = False,
        body: bytes = b"",
        worn: bool = False,
        repeats: bool = False,
        earlier: Earlier = NONE_EARLIER,
        expires: Any = None,
        timestamp: int | None = None,
    ) -> int:
        """A delivery; `run`: stamped as this (round, attempt). Returns its tag."""
        tag = next(self._tags)
        headers = {copy_headers.QUEUE: QUEUE, copy_headers.ROUND: run[0], copy_headers.ATTEMPT: run[1]} if run else None
        properties = Properties(headers=headers, message_id=id, timestamp=timestamp)
        delivery = Delivery(self.epoch, tag, "", QUEUE, redelivered, properties, body)
        name = id or f"preforkd-{next(self._given):032x}"
        likeness = b"" if id else b"like" + body
        arrival = Arrival(
            *(delivery, key_of(name, body), name, bool(id)),
            *(*(run or (1, 1)), run is not None, likeness, worn, repeats),
            earlier=earlier,
            expires=expires,
        )
        known = [row for row in self.rows.values() if row.key[:16] == arrival.key[:16]]
        self.settlement.decisions.count("delivered")  # as BrokerHearing does
        self.settlement.delivered(arrival, known)
        return tag

    def comes(self, copy: Outgoing) -> RunId:
        """A retry copy comes from the queue and goes to W0."""
        delivery = Delivery(self.epoch, 0, "", QUEUE, False, copy.properties, copy.body)
        return self.begun(
            copy.properties.message_id, copies.stamp(delivery, QUEUE), earlier=copies.earlier_of(delivery)
        )[1]

    def assign(self, worker: Incarnation = W0) -> RunId:
        """The oldest waiting message goes to a worker."""
        entry = next(iter(self.settlement.assignments.waiting.values()))
        self.settlement.assignments.assign(entry, worker)
        return entry.run

    def begun(self, id: str | None = "m", run: tuple[int, int] | None = None, **delivery: Any) -> tuple[int, RunId]:
        """A message delivered and sent to W0, and the turn over."""
        tag = self.deliver(id, run, **delivery)
        begun = self.assign()
        self.turn()
        return tag, begun

    def ends(self, run: RunId, kind: OutcomeKind = OutcomeKind.DONE, failure: Failure = RAISED) -> None:
        """W0 has marked this outcome."""
        self.settlement.outcome(W0, run, kind, failure)

    def confirmed(self, token: int) -> None:
        """The broker has this publication."""
        entry = self.settlement.publications.confirmed(token)
        if entry is not None:
            self.settlement.copy_confirmed(entry)

    def lose_connection(self) -> None:
        """The epoch is over."""
        self.settlement.disconnected()
        self.epoch += 1

    def restart(self) -> None:
        """Another consumer starts from the rows."""
        self.settlement = Settlement(self.pool, "host", self._dedupe)
        self.settlement.decisions.now_s = 2000.0
        self.epoch += 1
        for row in self.rows.values():
            if row.state.open:
                self.settlement.restore_row(row)

    def has_row(self, state: RowState, round: int = 1, attempt: int = 1, id: str = "m", note: bytes = b"") -> None:
        """The ledger knows this."""
        row = Row(key_of(id), round, attempt, state, W0.slot, W0.generation, 1.0, id, note)
        self.rows[row.key] = row

    # ---- what came of it ------------------------------------------------------------------------------------------

    def turn(self) -> Over:
        """End the turn: its rows are durable now."""
        self.commit()
        return self.synced()

    def commit(self) -> None:
        """Begin the turn's commit: its rows are on record, not durable yet."""
        turn = self.settlement.decisions.take()
        self.rows |= turn.rows
        for name, by in turn.counters.items():
            self.counters[name] = self.counters.get(name, 0) + by
        self.last = Over(turn.said, turn.rows, turn.counters, [])

    def synced(self) -> Over:
        """The disk is done with it."""
        self.last = self.last._replace(effects=self.settlement.decisions.take_effects())
        return self.last

    def acked(self) -> list[int]:
        """The tags that this turn acks."""
        return [effect.tag for effect in self.turn().effects if isinstance(effect, Ack)]

    def returned(self) -> list[int]:
        """The tags that the last turn gave back."""
        return [effect.tag for effect in self.last.effects if isinstance(effect, Requeue)]

    def published(self) -> list[Outgoing]:
        """What the last turn published."""
        return [effect for effect in self.last.effects if isinstance(effect, Outgoing)]

    def later(self) -> list[int]:
        """The tokens that the last turn wants to be reminded of."""
        return [effect.token for effect in self.last.effects if isinstance(effect, PublishLater)]

    def sent(self) -> list[ConsumerFrame]:
        """The frames that the last turn sent to workers."""
        return [effect.frame for effect in self.last.effects if isinstance(effect, Send)]

    def runs(self) -> list[tuple[int, int]]:
        """The (round, attempt) of what the last turn sent to be run."""
        return [(frame.run.round, frame.run.attempt) for frame in self.sent() if isinstance(frame, Run)]

    def said(self) -> list[Event]:
        """The events that the last turn logged."""
        return [saying.event for saying in self.last.said]

    def state(self, id: str = "m") -> RowState | None:
        """What the ledger says about a message."""
        row = self.rows.get(key_of(id))
        return row.state if row else None

    def entry(self, id: str = "m") -> Entry:
        """A message in flight."""
        return self.settlement.entries[key_of(id)]

    @property
    def empty(self) -> bool:
        """Whether nothing at all is remembered."""
        settlement = self.settlement
        memories = (settlement.entries, settlement.assignments.waiting, settlement.assignments.workers())
        return not any(memories) and not settlement.publications._outgoing
