"""What a turn's rows are for the store of a fleet, and what the store's answer means for the host's ledger. Pure.

Used by the consumer, once for each turn that has rows. The store excludes; the host's ledger knows what was begun here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from supervisor.fleet.calls import Entry, Refusal
from supervisor.ledger.base import Rival, Row, RowState

Run = tuple[int, int]
"""Round and attempt."""

_LETTERS = {
    RowState.DISPATCHED: "c",
    RowState.RETURNED: "u",
    RowState.DONE: "o",
    RowState.RETRY_PENDING: "R",
    RowState.RETRY: "r",
    RowState.DEAD_PENDING: "D",
    RowState.DEAD: "d",
    RowState.PARKED_PENDING: "P",
    RowState.PARKED: "p",
    RowState.GONE: "g",
}
_STATES = {letter: state for state, letter in _LETTERS.items()}


class Plan(NamedTuple):
    """One turn. `now`: rows that the host's ledger gets at once; `later`: rows that it gets once the store has granted
    them. `claims`, `settles`: of the store's call."""

    now: dict[bytes, Row]
    later: dict[bytes, Row]
    claims: list[Entry]
    settles: list[Entry]

    def refuse(self, key: bytes, instead: Row | None) -> None:
        """The store has refused the row with this `key`; the host's ledger gets another one `instead`, or none."""
        self.later.pop(key, None)
        if instead is not None:
            self.later[key] = instead


class Reconciled(NamedTuple):
    """What follows from the open rows that the store and the host's ledger have after a registration.

    `releases`: rows of the store that stand for nothing. `rows`: rows of the host that the store gets (again).
    `after`: the same, once the releases are done.
    """

    releases: list[Entry]
    rows: dict[bytes, Row]
    after: dict[bytes, Row]


def planned(
    rows: Mapping[bytes, Row],
    held: Mapping[bytes, Run],
    is_tracked: Callable[[Row], bool],
    open_here: Callable[[bytes], Row | None],
) -> Plan:
    """Take the rows of a turn apart.

    `held`: our open rows in the store. `is_tracked`: whether the fleet knows the message (the others stay on the host).
    `open_here`: the open row that the host's ledger has with this key.

    A row DISPATCHED that the store does not have as ours is a claim. All others are settles. What was begun here is
    written here at once: the host's ledger is the record of it, whatever the store says. What was not waits for the
    grant: of a claim that is refused nothing is left on the host.
    """
    plan = Plan({}, {}, [], [])
    for key, row in rows.items():
        if not is_tracked(row):
            plan.now[key] = row
            continue
        ours = held.get(key) == (row.round, row.attempt)
        if row.state is RowState.DISPATCHED:
            if not ours:
                plan.claims.append(_entry(row))
            (plan.now if ours else plan.later)[key] = row
            continue
        if ours or row.state is not RowState.RETURNED:
            entry = _entry(row)
            plan.settles.append(entry._replace(name="") if ours else entry)  # the claim has told it
        begun_here = ours or row.state is RowState.RETURNED or _same_run(open_here(key), row)
        (plan.now if begun_here else plan.later)[key] = row
    return plan


def holding(held: dict[bytes, Run], granted: Iterable[Entry]) -> None:
    """Keep account in `held` of what the store has `granted`."""
    for entry in granted:
        if entry.state in "cRDP":
            held[entry.key] = (entry.round, entry.attempt)
        else:
            held.pop(entry.key, None)


def rival(refusal: Refusal, now_s: float) -> Rival:
    """The row in the way. `now_s`: the ledger's time."""
    row = Row(
        refusal.key,
        refusal.round,
        refusal.attempt,
        _STATES[refusal.state],
        slot=0,
        generation=0,
        at_s=now_s - refusal.age_s,
        id=refusal.name,
        note=refusal.note,
        epoch=refusal.epoch,
    )
    return Rival(row, refusal.host, refusal.lost)


def corrected(row: Row, other: Row) -> Row | None:
    """What the host's ledger says after a refusal of `row`, which it has already; `other`: the row in the way.

    None: nothing else. An open row must not stay: its decision is not ours any more. What another host has settled is
    on record here, too; a message that another host has in hand counts as given back. A closed row tells what was
    done here, and stays.
    """
    if not row.state.open:
        return None
    if other.state.open:
        return replace(row, state=RowState.RETURNED, note=b"")
    return replace(row, round=other.round, attempt=other.attempt, state=other.state, note=other.note)


def reconciled(
    store: Iterable[Entry], here: Mapping[bytes, Row], open_here: Iterable[Row], is_tracked: Callable[[Row], bool]
) -> Reconciled:
    """Bring both parts together after a registration: this process, or a former one, may have ended at any moment.

    `store`: the open rows of this epoch. `here`: the rows of the host's ledger with those keys. `open_here`: all of its
    open rows.

    | the host's row | means | then |
    | --- | --- | --- |
    | none, an earlier run, RETURNED | the claim was granted, and the host died before it wrote that | released |
    | the same run, DISPATCHED | sent to a worker, or about to be | ours |
    | the same run or a later one, otherwise | an outcome; the call that told it may not have arrived | told again |
    | open, and unknown to the store | the store has forgotten it, or another host has decided | claimed again |
    """
    result = Reconciled([], {}, {})
    tracked = {row.key: row for row in open_here if is_tracked(row)}
    for entry in store:
        row = here.get(entry.key)
        if row is None or row.state is RowState.RETURNED or (row.round, row.attempt) < (entry.round, entry.attempt):
            result.releases.append(entry._replace(state="u"))
            if entry.key in tracked:
                result.after[entry.key] = tracked.pop(entry.key)
        else:
            result.rows[entry.key] = row
    result.rows.update(tracked)
    return result


def _entry(row: Row) -> Entry:
    return Entry(row.key, row.round, row.attempt, _LETTERS[row.state], row.id, row.note)


def _same_run(known: Row | None, row: Row) -> bool:
    return known is not None and (known.round, known.attempt) == (row.round, row.attempt)
