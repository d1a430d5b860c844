"""Watches the retry copies that wait in delay queues: those that the broker has lost are recorded, named and kept. Of
dead letters it says only that their queue was missing.

Runs in the consumer process. What is waited for is known from the rows of each turn, and after a start from a look
back through the ledger, a little at a time. No pass does more than a bounded piece of work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from supervisor.brokers.base import Held
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.config.schema import PoolConfig
from supervisor.consumer.observe.health import Health
from supervisor.consumer.settlement.messages import failure_of
from supervisor.consumer.settlement.missing import WaitingRetries, let_go, lose
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.ledger.base import Ledger, Row, RowState
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.messages.identity import ID_BYTES
from supervisor.system.reactor import CallLater

STEP_S = 0.05
"""The pause between two pieces of work."""
AT_ONCE = 200
"""So many messages, lost or given up, are recorded in one turn."""
NAMED = 3
_RETRY, _GONE = RowState.RETRY, RowState.GONE
_RECORD = {_RETRY: lose, _GONE: let_go}
"""What is recorded of a message, by the state of its row."""
_LOOKS_BACK_S = 8 * 86_400.0  # the longest delay, and a day for a copy that is overdue


class DelayWatch:
    """Of one session. `begin` once.

    `key_of`: the key that a message with this id has in the pool's queue, as far as the id makes it. The ledger may
    also know messages of a queue that the pool had before.
    """

    def __init__(
        self,
        pool: PoolConfig,
        ledger: Ledger,
        settlement: Settlement,
        health: Health,
        key_of: Callable[[str], bytes],
    ) -> None:
        queue = pool.queue
        self._lost: dict[bytes, str] = {}  # ids of those that are neither published again nor let go
        self._why = ""  # how the last of them was lost
        self._pool = pool.name
        self._key_of = key_of
        self._ledger = ledger
        self._settlement = settlement
        self._health = health
        self._retries = WaitingRetries(queue)
        self._letters = {dead_queue(queue): ("dead", "dead-lettered"), parked_queue(queue): ("parked", "parked")}
        self._empty = False  # the pool's queue, ours alone, at the last look
        self._due: dict[bytes, tuple[RowState, str]] = {}  # to be recorded, if the ledger knows nothing later of them
        self._call_later: CallLater = lambda delay_s, callback: None

    def begin(self, call_later: CallLater) -> None:
        """Look back through the ledger, from now on in small pieces. Raises LedgerError."""
        self._call_later = call_later
        self._look_back(None, self._ledger.now_s - _LOOKS_BACK_S)

    def queues(self) -> list[str]:
        """The delay queues in which copies wait."""
        return self._retries.delay_queues(self._settlement.decisions.now_s)

    def turned(self, rows: Mapping[bytes, Row]) -> None:
        """`rows` are on record. Called for every turn: rows that concern no retry cost next to nothing."""
        watched, changed = bool(self._retries or self._lost), False
        for row in rows.values():
            state = row.state
            if watched or state is _RETRY or state is _GONE:
                changed = self._take(row) or changed
        if changed:
            self._tell()

    def _take(self, row: Row) -> bool:
        """Take in a message's last row; whether it changes what is lost."""
        if row.state is _RETRY:
            self._take_retry(row)
        else:
            self._retries.forget(row.key)
        return self._take_lost(row) or self._lost.pop(row.key, None) is not None

    def _take_retry(self, row: Row) -> None:
        """The copy of this row waits, unless its delay queue was found missing since the copy was confirmed."""
        why = self._retries.add(row)
        if why:
            self._suspect({row.key: why})

    def _take_lost(self, row: Row) -> bool:
        why = failure_of(row).lost if row.state is _GONE else ""
        if why:
            self._lost[row.key], self._why = row.id, why
        return bool(why)

    def held(self, event: Held) -> None:
        """What another queue of the pool's has, or that it was not there."""
        now_s = self._settlement.decisions.now_s
        if event.messages is None:
            self._tell_letters(event.queue)
            self._suspect(self._retries.missing(event.queue, now_s))
        elif self._empty or event.messages:  # or the copies may have been moved to the pool's queue before their time
            self._suspect(self._retries.held(event.queue, event.messages, now_s))

    def looked(self, empty: bool, shared: bool) -> None:
        """At the pool's queue. `empty`: it is, ours alone and subscribed to; `shared`: others consume from it, too."""
        self._empty = empty
        if shared:
            self._retries.shared(self._settlement.decisions.now_s)
        elif empty:
            self._suspect(self._retries.overdue(self._settlement.decisions.now_s, self._settlement.entries))

    def disconnected(self) -> None:
        """The connection is gone."""
        self._retries.begin_again()

    def lost_with(self, ids: set[str] | None) -> list[bytes]:
        """The keys of the lost messages with these `ids` (None: of all)."""
        return [key for key, id in self._lost.items() if ids is None or id in ids]

    def rows(self, keys: Sequence[bytes]) -> list[Row]:
        """The last rows of the messages with these `keys`. Raises LedgerError."""
        known = self._ledger.look_up(keys) if keys else {}
        return [row for key in keys for row in known[key] if row.key == key]

    def let_go(self, keys: Sequence[bytes], by: str) -> None:
        """Give up the lost messages with these `keys`; recorded in pieces. `by`: the operator."""
        for key in keys:
            self._lost.pop(key, None)
        self._record_soon(dict.fromkeys(keys, by), _GONE)
        self._tell()

    def _tell_letters(self, queue: str) -> None:
        """A queue for copies was missing: there may have been letters in it."""
        counter, word = self._letters.get(queue, ("", ""))
        count = self._ledger.counters().get(counter, 0)
        if count:
            text = (
                f"queue {queue!r} was not there and was declared: if it was deleted, its part of the {count} "
                f"message(s) that were {word} so far is gone; `message.{counter}` in the log names them"
            )
            log(Event.QUEUE_DECLARED, text, level=logging.WARNING, queue=queue)

    def _look_back(self, before: int | None, since_s: float) -> None:
        """Take in a piece of the ledger. A row counts if it is the last of its message."""
        rows, before = self._ledger.settled_before(before, since_s)
        old = [row for row in rows if row.state in (_RETRY, _GONE)]
        known = self._ledger.look_up([row.key for row in old]) if old else {}
        for row in old:
            here = row.key.startswith(self._key_of(row.id)[:ID_BYTES])
            if not here or row not in known[row.key] or row.key in self._settlement.entries:
                continue
            if row.state is _RETRY:
                self._take_retry(row)
            else:
                self._take_lost(row)
        if before is not None:
            self._call_later(STEP_S, lambda: self._look_back(before, since_s))
        if self._lost:
            self._tell()

    def _suspect(self, lost: Mapping[bytes, str]) -> None:
        """The copies with these keys seem to be lost, with the reason of each."""
        for key in lost:
            self._retries.forget(key)
        self._record_soon(lost, _RETRY)

    def _record_soon(self, texts: Mapping[bytes, str], state: RowState) -> None:
        begun = bool(self._due)
        for key, text in texts.items():
            self._due.setdefault(key, (state, text))
        if self._due and not begun:
            self._call_later(0.0, self._record_piece)

    def _record_piece(self) -> None:
        keys = list(islice(self._due, AT_ONCE))
        due = {key: self._due.pop(key) for key in keys}
        for row in self.rows(keys):
            state, text = due[row.key]
            if row.state is state and self._settlement.is_last(row):
                _RECORD[state](self._settlement.decisions, row, text)
        if self._due:
            self._call_later(STEP_S, self._record_piece)

    def _tell(self) -> None:
        if not self._lost:
            self._health.heal(Event.RETRIES_LOST)
            return
        ids = ", ".join(map(repr, islice(self._lost.values(), NAMED)))
        more = f" and {len(self._lost) - NAMED} more" if len(self._lost) > NAMED else ""
        self._health.notice(
            Event.RETRIES_LOST,
            f"{len(self._lost)} message(s) lost while they waited for their next attempt ({self._why}): {ids}{more}. "
            f"`preforkd pending list {self._pool}` names them: publish each again with the same id and content, and "
            f"its next attempt follows; or drop it by `preforkd pending drop {self._pool} ID`",
            degrades=True,
        )
