"""The settlement's memory as a value: copied, so that a search can go on from one state in many ways, and compared."""

from __future__ import annotations

from collections import deque
from copy import copy

from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement.assignments import Assignments
from supervisor.consumer.settlement.content_matches import ContentMatches
from supervisor.consumer.settlement.messages import Entry
from supervisor.consumer.settlement.publications import Publications
from supervisor.consumer.settlement.refused_copies import RefusedCopies
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import Ack, Effect, PublishLater, Requeue, Send, UnitOfWork
from tests.support.settlement_parts import shallow


def clone_settlement(original: Settlement) -> Settlement:
    """Another settlement in the same state; they share only what never changes."""
    clone = shallow(original)
    entries = {key: _clone_entry(entry) for key, entry in original.entries.items()}
    clone.entries = entries
    clone.saved = original.saved.copy()
    clone.content_matches = ContentMatches()
    clone.content_matches._expected = {
        likeness: deque(waiting) for likeness, waiting in original.content_matches._expected.items()
    }
    clone.decisions = _clone_decisions(original.decisions)
    clone.expiries = shallow(original.expiries)
    clone.expiries._decisions = clone.decisions
    clone.assignments = _clone_assignments(original.assignments, clone.decisions, entries)
    clone.publications = _clone_publications(original.publications, clone.assignments, clone.decisions, entries)
    return clone


def _clone_entry(original: Entry) -> Entry:
    clone = copy(original)
    clone.tags = original.tags.copy()
    clone.later = original.later.copy()
    clone.unconfirmed = None if original.unconfirmed is None else original.unconfirmed.copy()
    return clone


def _clone_decisions(original: UnitOfWork) -> UnitOfWork:
    clone = shallow(original)
    clone._rows = original._rows.copy()
    clone._counters = original._counters.copy()
    clone._effects = original._effects.copy()
    clone._committing = original._committing.copy()
    return clone


def _clone_assignments(original: Assignments, decisions: UnitOfWork, entries: dict[bytes, Entry]) -> Assignments:
    clone = shallow(original)
    clone._decisions = decisions
    clone.waiting = {key: entries[key] for key in original.waiting}
    clone.held = {key: entries[key] for key in original.held}
    clone._by_worker = {worker: {key: entries[key] for key in theirs} for worker, theirs in original._by_worker.items()}
    return clone


def _clone_publications(
    original: Publications, assignments: Assignments, decisions: UnitOfWork, entries: dict[bytes, Entry]
) -> Publications:
    clone = shallow(original)
    clone._assignments, clone._decisions = assignments, decisions
    clone._outgoing = {token: (entries[entry.key], out) for token, (entry, out) in original._outgoing.items()}
    clone._later = original._later.copy()
    clone.refused = _clone_refused(original.refused)
    return clone


def _clone_refused(original: RefusedCopies) -> RefusedCopies:
    clone = shallow(original)
    clone._copies = {token: copy(refused) for token, refused in original._copies.items()}
    clone._waiting = {queue: waiting.copy() for queue, waiting in original._waiting.items()}
    clone._reasons = original._reasons.copy()
    return clone


def memories(settlement: Settlement) -> dict[str, object]:
    """All that it remembers of messages in flight, by name: each is empty once there are none."""
    return {
        "entries": [entry.id for entry in settlement.entries.values()],
        "waiting": list(settlement.assignments.waiting),
        "held": list(settlement.assignments.held),
        "holdings": settlement.assignments.workers(),
        "publications": settlement.publications._outgoing,
        "refused copies": settlement.publications.refused._copies,
    }


def settlement_state(settlement: Settlement, tags: dict[int, int], tokens: dict[int, int]) -> tuple[object, ...]:
    """All that decides the settlement's future, with tags and tokens renamed: how they are counted is no matter."""
    decisions, refused = settlement.decisions, settlement.publications.refused
    return (
        settlement.accepting,
        tuple(_entry_state(entry, tags, tokens) for entry in settlement.entries.values()),
        tuple(settlement.assignments.waiting),
        tuple(settlement.assignments.held),
        frozenset(settlement.saved),
        tuple(tuple(theirs) for theirs in settlement.assignments._by_worker.values()),
        frozenset(tokens.get(token) for token in settlement.publications._later),
        frozenset(tokens.get(token) for token in refused._copies),
        tuple(tuple(tokens.get(token) for token in waiting) for waiting in refused._waiting.values()),
        frozenset((likeness, len(waiting)) for likeness, waiting in settlement.content_matches._expected.items()),
        frozenset((row.key, row.round, row.attempt, row.state, row.slot) for row in decisions._rows.values()),
        tuple(_effect_state(effect, tags, tokens) for effect in decisions._effects),
        tuple(_effect_state(effect, tags, tokens) for effect in decisions._committing),
    )


def _effect_state(effect: Effect, tags: dict[int, int], tokens: dict[int, int]) -> tuple[object, ...]:
    what: object = None
    if isinstance(effect, Ack | Requeue):
        what = tags.get(effect.tag)
    elif isinstance(effect, Send):
        what = effect.worker, type(effect.frame), getattr(effect.frame, "run", None)
    elif isinstance(effect, Outgoing):
        what = tokens.get(effect.token), effect.routing_key, effect.body
    elif isinstance(effect, PublishLater):
        what = tokens.get(effect.token)
    return type(effect), what


def _entry_state(entry: Entry, tags: dict[int, int], tokens: dict[int, int]) -> tuple[object, ...]:
    return (
        entry.key,
        entry.round,
        entry.attempt,
        entry.phase,
        entry.owner,
        entry.pending,
        entry.delivery is None,
        entry.maybe_duplicate,
        entry.earlier,
        entry.failure.earlier if entry.failure else None,
        entry.worn,
        entry.expiry,
        tokens.get(entry.token or 0),
        None if entry.unconfirmed is None else frozenset(tokens.get(token) for token in entry.unconfirmed),
        tuple(tags.get(tag) for _epoch, tag in entry.tags),
        tuple((arrival.round, arrival.attempt, tags.get(arrival.delivery.tag)) for arrival in entry.later),
    )
