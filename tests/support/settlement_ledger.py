"""A ledger that the modelled daemon shares with another one, as far as a turn needs it (`supervisor.ledger.base`)."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.ledger.base import GRANTED, Result, Rival, Row, RowState
from tests.support.settlement_parts import shallow


class LedgerModel:
    """Requests are answered at once; they are durable when the world says so."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}  # ours on record: they outlive the consumer
        self.durable_rows: dict[bytes, Row] = {}  # they outlive the power
        self.others: dict[bytes, Row] = {}  # the other daemon's
        self._result = GRANTED

    def clone(self) -> LedgerModel:
        """Another one, in the same state."""
        other = shallow(self)
        other.rows, other.others = self.rows.copy(), self.others.copy()
        return other

    def submit(self, rows: Mapping[bytes, Row], counters: Mapping[str, int]) -> None:
        """As `Ledger.submit`."""
        refused = {key: Rival(self.others[key], "other") for key, row in rows.items() if self._refuses(row)}
        self.rows |= {key: row for key, row in rows.items() if key not in refused}
        self._result = Result(refused)

    def results(self) -> Result | None:
        """As `Ledger.results`; all is durable now."""
        self.durable_rows = self.rows.copy()
        return self._result

    def lose_power(self) -> None:
        """What was not durable is gone."""
        self.rows = self.durable_rows.copy()

    def grants(self, claim: Row) -> bool:
        """Whether the other daemon may begin this run now: it sees nothing of ours that is not durable."""
        known = (rows.get(claim.key) for rows in (self.rows, self.durable_rows, self.others))
        return not any(row is not None and in_the_way(row, claim) for row in known)

    def _refuses(self, row: Row) -> bool:
        there = self.others.get(row.key)
        return there is not None and in_the_way(there, row)


def in_the_way(there: Row, row: Row) -> bool:
    """Whether another owner's row refuses `row`: as in `Ledger.submit`."""
    known, asked = (there.round, there.attempt), (row.round, row.attempt)
    if there.state.open or known > asked:
        return True
    if there.state is RowState.DONE:
        return there.round == row.round
    return known == asked and there.state is not RowState.RETURNED
