"""What the consumer answers the master about messages: one by its id, or those that failed and have not come back.

Questions come from the control socket (`find`, `pending` in docs/control-protocol.md). An answer is bounded: of many
messages only the first are named.
"""

from __future__ import annotations

import msgspec

from supervisor.consumer.observe.delay_watch import DelayWatch
from supervisor.consumer.observe.traces import trace_of, trace_of_lost, trace_of_missing, trace_of_waiting
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.messages import Phase
from supervisor.consumer.settlement.missing import dropped_by, missing
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.ledger.base import Ledger, Row
from supervisor.link.consumer_state import Trace
from supervisor.link.frames import Find, FindGone, Found

NAMED = 1000
"""How many missing messages one answer names."""
_UNBEGUN = (Phase.WAITING, Phase.SAVING, Phase.HELD)


class Answers:
    """Answers from the settlement and the ledger of one pool."""

    def __init__(
        self, pool: str, settlement: Settlement, ledger: Ledger, arrivals: Arrivals, delays: DelayWatch
    ) -> None:
        self._pool = pool
        self._settlement = settlement
        self._ledger = ledger
        self._arrivals = arrivals
        self._delays = delays

    def answer(self, question: Find | FindGone) -> Found:
        """The answer to a question of the master. Raises LedgerError."""
        return self.find_gone(question) if isinstance(question, FindGone) else self.find(question)

    def find(self, question: Find) -> Found:
        """What is known of the messages with the id that is asked for. Raises LedgerError."""
        message_id = question.message_id
        here = [entry for entry in self._settlement.entries.values() if entry.id == message_id]
        awaited = {entry.key for entry in missing(here)}
        waiting = [trace_of_waiting(entry) for entry in here if entry.phase in _UNBEGUN]
        key = self._arrivals.key_of(message_id)
        rows = self._ledger.look_up([key])[key]
        traces = [*waiting, *(self._trace_of(row, row.key in awaited) for row in rows)]
        return Found(question.number, traces, "", len(traces))

    def _trace_of(self, row: Row, is_missing: bool) -> Trace:
        trace = trace_of(self._pool, row, self._settlement.ahead_s)
        return msgspec.structs.replace(trace, missing=True) if is_missing else trace

    def find_gone(self, order: FindGone) -> Found:
        """The failed messages that have not come back, and those whose retry is lost; with an order to drop, those that
        were given up by it."""
        wanted = set(order.drop) if order.drop else None
        found, lost = missing(self._settlement.entries.values()), self._delays.lost_with(wanted)
        if wanted is not None:
            found = [entry for entry in found if entry.id in wanted]
        traces = [trace_of_missing(entry) for entry in found[:NAMED]]
        rows = self._delays.rows(lost[: NAMED - len(traces)])
        traces += [trace_of_lost(self._pool, row, self._settlement.ahead_s) for row in rows]
        if order.drop != []:
            for entry in found:
                self._settlement.give_up_missing(entry, dropped_by(order.by))
            self._delays.let_go(lost, order.by)
        return Found(order.number, traces, "", len(found) + len(lost))
