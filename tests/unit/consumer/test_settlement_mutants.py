"""Faults put into the settlement on purpose: each must be found by the model check, or the check proves nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import msgspec
import pytest

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Outgoing
from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement import admission, assignments, copies, expiries, failure_policy
from supervisor.consumer.settlement.admission import Meaning
from supervisor.consumer.settlement.assignments import Assignments
from supervisor.consumer.settlement.content_matches import ContentMatches
from supervisor.consumer.settlement.expiries import Expiries
from supervisor.consumer.settlement.messages import NONE_EARLIER, Arrival, Earlier, Entry, Expiry, Failure, Phase
from supervisor.consumer.settlement.publications import Publications
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.settlement.unit_of_work import RecallAll, UnitOfWork
from supervisor.ledger.base import Row, RowState
from supervisor.link.frames import Incarnation, Run, RunId
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settlement_events import happen, possible
from tests.support.settlement_parts import Broken, Laws
from tests.support.settlement_search import explore
from tests.support.settlement_world import World

Patch = pytest.MonkeyPatch
ONE = (b"a",)

attach = Settlement._attach
decide = Settlement._decide
delivered = Settlement.delivered
died = Settlement.died
forget = Settlement._forget
outcome = Settlement.outcome
restore_row = Settlement.restore_row
copy_of = copies.copy_of
steps = World.steps


def pending_counts_as_final(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry, arrival: Arrival) -> None:
        if entry.phase is Phase.COPYING:
            self._duplicate(arrival, "decided")
        else:
            attach(self, entry, arrival)

    patch.setattr(Settlement, "_attach", mutant)


def any_run_of_an_id_matches(patch: Patch) -> None:
    def mutant(self: Settlement, arrival: Arrival, known: Iterable[Row]) -> None:
        for row in known:
            arrival = msgspec.structs.replace(arrival, round=row.round, attempt=row.attempt)
        delivered(self, arrival, known)

    patch.setattr(Settlement, "delivered", mutant)


def dead_copies_stay_in_their_round(patch: Patch) -> None:
    def mutant(entry: Entry, queue: str, host: str, token: int) -> Outgoing:
        outgoing = copy_of(entry, queue, host, token)
        headers = dict(outgoing.properties.headers or {})
        headers[copy_headers.ROUND] = entry.round
        return msgspec.structs.replace(
            outgoing, properties=msgspec.structs.replace(outgoing.properties, headers=headers)
        )

    patch.setattr(copies, "copy_of", mutant)


def owned_is_sent_again_before_hello_or_exit_notice(patch: Patch) -> None:
    def mutant(self: Settlement, row: Row) -> None:
        restore_row(self, row)
        if row.state is RowState.DISPATCHED:
            self._unbegun(self.entries[row.key])

    patch.setattr(Settlement, "restore_row", mutant)


def the_tail_runs_ahead_of_the_outcomes_taken(patch: Patch) -> None:
    commit = World._commit

    def mutant(self: World, rows: dict[bytes, Row], taken: list[int]) -> None:
        commit(self, rows, [len(slot.ring) for slot in self.slots])

    patch.setattr(World, "_commit", mutant)


def done_before_the_publishes_are_confirmed(patch: Patch) -> None:
    def mutant(self: Publications, entry: Entry) -> None:
        if entry.unconfirmed:
            entry.unconfirmed.clear()
        tell_published(self, entry)

    tell_published = Publications._tell_published
    patch.setattr(Publications, "_tell_published", mutant)


def a_tag_is_acked_in_another_epoch(patch: Patch) -> None:
    def mutant(self: Settlement) -> None:
        tags = {entry.key: list(entry.tags) for entry in self.entries.values()}
        disconnected(self)
        for key, entry in self.entries.items():
            entry.tags = tags[key]

    disconnected = Settlement.disconnected
    patch.setattr(Settlement, "disconnected", mutant)


def effects_come_before_the_commit(patch: Patch) -> None:
    def mutant(self: World) -> Iterator[Callable[[], None]]:
        decided = steps(self)
        commit = list(itertools.islice(decided, 1))
        yield from self._effects()
        yield from commit

    patch.setattr(World, "steps", mutant)


def acked_before_the_copy_is_confirmed(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry, pending: RowState, failure: Failure) -> None:
        decide(self, entry, pending, failure)
        self.decisions.ack(entry.tags, entry.likeness)
        entry.tags.clear()

    patch.setattr(Settlement, "_decide", mutant)


def the_unbegun_are_charged(patch: Patch) -> None:
    def mutant(self: Settlement, worker: Incarnation, running: RunId | None, failure: Failure, proof: bool) -> None:
        died(self, worker, running, failure, proof=False)

    patch.setattr(Settlement, "died", mutant)


def the_running_one_counts_as_unbegun(patch: Patch) -> None:
    def mutant(self: Settlement, worker: Incarnation, running: RunId | None, failure: Failure, proof: bool) -> None:
        died(self, worker, None, failure, proof)

    patch.setattr(Settlement, "died", mutant)


def in_doubt_is_run_again_though_to_be_parked(patch: Patch) -> None:
    rules = tuple(row for row in failure_policy._RULES if row[1] is not RowState.PARKED_PENDING)
    patch.setattr(failure_policy, "_RULES", rules)


def newer_runs_that_wait_are_forgotten(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry) -> None:
        entry.later.clear()
        forget(self, entry)

    patch.setattr(Settlement, "_forget", mutant)


def done_is_not_recorded(patch: Patch) -> None:
    def mutant(self: Settlement, worker: Incarnation, run: RunId, kind: OutcomeKind, failure: Failure) -> None:
        entry = self.assignments.find(worker, run)
        if kind is OutcomeKind.DONE and entry is not None:
            self._settle(entry)
        else:
            outcome(self, worker, run, kind, failure)

    patch.setattr(Settlement, "outcome", mutant)


def publications_lost_with_the_connection_stay_lost(patch: Patch) -> None:
    def mutant(self: Publications, token: int, reason: str, lost: bool, for_good: bool = False) -> None:
        if not lost:
            unpublished(self, token, reason, lost, for_good)

    unpublished = Publications.unpublished
    patch.setattr(Publications, "unpublished", mutant)


def what_hello_does_not_name_stays_owned(patch: Patch) -> None:
    patch.setattr(Settlement, "greeted", lambda self, worker, held: None)


def a_given_up_message_without_id_is_still_expected(patch: Patch) -> None:
    patch.setattr(ContentMatches, "forget", lambda self, key, likeness: None)


def open_rows_without_an_id_are_kept_for_ever(patch: Patch) -> None:
    def mutant(self: Settlement, row: Row) -> None:
        restore_row(self, row)
        if row.key in self.entries:
            self.entries[row.key].has_id = True

    patch.setattr(Settlement, "restore_row", mutant)


def the_newest_run_goes_at_once(patch: Patch) -> None:
    """A later run of a message is admitted while the earlier one is under way."""

    def mutant(self: Settlement, entry: Entry, arrival: Arrival) -> None:
        self._admit_by_ledger(arrival, [])

    patch.setattr(Settlement, "_admit_beside", mutant)


def a_repetition_goes_ahead_of_what_a_worker_has(patch: Patch) -> None:
    patch.setattr(Assignments, "perhaps", lambda self, arrival: None)


# ---- copies that are refused ----------------------------------------------------------------------------------------


def what_waits_for_a_refused_copy_takes_room(patch: Patch) -> None:
    patch.setattr(Publications, "set_aside", lambda self: [])


def a_refused_copy_counts_as_placed(patch: Patch) -> None:
    def mutant(self: Settlement, token: int, reason: str, lost: bool) -> None:
        entry = self.publications.confirmed(token)
        if entry is not None:
            self.copy_confirmed(entry)

    patch.setattr(Settlement, "unpublished", mutant)


def a_refused_copy_is_given_up(patch: Patch) -> None:
    def mutant(self: Publications, token: int) -> None:
        if token not in self.refused:
            publish_later(self, token)

    publish_later = Publications._publish_later
    patch.setattr(Publications, "_publish_later", mutant)


def what_is_on_its_way_is_published_again_after_a_disconnect(patch: Patch) -> None:
    def mutant(self: Publications) -> None:
        for token in self._outgoing:
            self._publish_later(token)

    patch.setattr(Publications, "restart_time", mutant)


def a_missing_message_that_comes_after_all_is_run(patch: Patch) -> None:
    def mutant(self: Settlement, row: Row, arrival: Arrival) -> None:
        if row.state is RowState.GONE:
            self._enter(arrival)
        else:
            admit_by_row(self, row, arrival)

    admit_by_row = Settlement._admit_by_row
    patch.setattr(Settlement, "_admit_by_row", mutant)


def a_missing_message_that_comes_after_all_is_a_duplicate(patch: Patch) -> None:
    def mutant(self: Settlement, row: Row, arrival: Arrival) -> None:
        if row.state is RowState.GONE:
            self._duplicate(arrival, "it was given up")
        else:
            admit_by_row(self, row, arrival)

    admit_by_row = Settlement._admit_by_row
    patch.setattr(Settlement, "_admit_by_row", mutant)


# ---- while a commit is under way ---------------------------------------------------------------------------------


def effects_do_not_wait_for_the_disk(patch: Patch) -> None:
    def mutant(self: World) -> Iterator[Callable[[], None]]:
        yield from steps(self)
        yield from self._effects()

    patch.setattr(World, "steps", mutant)


def tails_do_not_wait_for_the_disk(patch: Patch) -> None:
    def mutant(self: World, rows: dict[bytes, Row], taken: list[int]) -> None:
        for slot, tail in zip(self.slots, taken, strict=True):
            slot.tail = max(slot.tail, tail)
        commit(self, rows, taken)

    commit = World._commit
    patch.setattr(World, "_commit", mutant)


def a_hello_withdraws_nothing(patch: Patch) -> None:
    patch.setattr(UnitOfWork, "unsend", lambda self, worker: None)


def a_hello_withdraws_only_what_is_on_its_way_to_the_disk(patch: Patch) -> None:
    def mutant(self: UnitOfWork, worker: Incarnation) -> None:
        undecided = self._effects
        unsend(self, worker)
        self._effects = undecided

    unsend = UnitOfWork.unsend
    patch.setattr(UnitOfWork, "unsend", mutant)


def a_hello_withdraws_only_what_waits_for_the_next_commit(patch: Patch) -> None:
    def mutant(self: UnitOfWork, worker: Incarnation) -> None:
        committing = self._committing
        unsend(self, worker)
        self._committing = committing

    unsend = UnitOfWork.unsend
    patch.setattr(UnitOfWork, "unsend", mutant)


def a_hello_withdraws_what_it_holds(patch: Patch) -> None:
    def mutant(self: Settlement, worker: Incarnation, held: Iterable[RunId]) -> None:
        greeted(self, worker, [])

    greeted = Settlement.greeted
    patch.setattr(Settlement, "greeted", mutant)


def a_recall_goes_with_the_turn_under_way(patch: Patch) -> None:
    """It overtakes what was decided before it."""

    def mutant(self: UnitOfWork) -> None:
        (self._committing or self._effects).append(RecallAll())

    patch.setattr(UnitOfWork, "recall", mutant)


def a_recall_goes_before_its_own_turn(patch: Patch) -> None:
    patch.setattr(UnitOfWork, "recall", lambda self: self._effects.insert(0, RecallAll()))


def acks_are_kept_when_their_epoch_is_over(patch: Patch) -> None:
    patch.setattr(UnitOfWork, "void_tags", lambda self: [])


def acks_that_never_left_are_not_expected_back(patch: Patch) -> None:
    def mutant(self: UnitOfWork) -> list[bytes]:
        void_tags(self)
        return []

    void_tags = UnitOfWork.void_tags
    patch.setattr(UnitOfWork, "void_tags", mutant)


def marks_count_after_a_power_loss(patch: Patch) -> None:
    def mutant(self: Settlement, worker: Incarnation, running: RunId | None, failure: Failure, proof: bool) -> None:
        died(self, worker, running, failure)

    patch.setattr(Settlement, "died", mutant)


# ---- an inbox decides ------------------------------------------------------------------------------------------------


def a_death_is_given_up_without_asking(patch: Patch) -> None:
    rules = tuple(row for row in failure_policy._RULES if row[1] is not RowState.RETRY_PENDING)
    patch.setattr(failure_policy, "_RULES", (*rules, failure_policy._RULES[-1]))


def the_first_death_is_charged(patch: Patch) -> None:
    patch.setattr(failure_policy, "_uncharged", lambda kind, pool, earlier: False)


def no_death_is_charged(patch: Patch) -> None:
    def mutant(kind: OutcomeKind, pool: PoolConfig, earlier: Earlier) -> int:
        return earlier.deaths + (kind is OutcomeKind.IN_DOUBT)

    patch.setattr(failure_policy, "_uncharged", mutant)


def an_inbox_is_asked_until_it_answers(patch: Patch) -> None:
    rules = failure_policy._RULES
    patch.setattr(failure_policy, "_RULES", (*rules[1:4], *rules[4:]))


def a_copy_tells_nothing_of_earlier_attempts(patch: Patch) -> None:
    patch.setattr(copies, "earlier_of", lambda delivery: NONE_EARLIER)


def the_database_of_a_death_is_forgotten(patch: Patch) -> None:
    def mutant(self: Earlier, died: bool, database: bytes) -> Earlier:
        return Earlier(self.deaths + died)

    patch.setattr(Earlier, "with_run", mutant)


def a_run_knows_nothing_of_earlier_ones_after_a_restart(patch: Patch) -> None:
    patch.setattr(Earlier, "note", property(lambda self: None))


def the_letter_of_an_unanswered_question_tells_of_the_death_alone(patch: Patch) -> None:
    patch.setattr(failure_policy, "_diagnosed", lambda run, failure: run.earlier.given_up or failure)


# ---- expiry ---------------------------------------------------------------------------------------------------------


def expiry_is_only_looked_at_on_arrival(patch: Patch) -> None:
    def mutant(self: Assignments, places: Iterable[Incarnation], is_over: Callable[[Entry], bool]) -> None:
        fill(self, places, lambda entry: False)

    fill = Assignments.fill
    patch.setattr(Assignments, "fill", mutant)


def what_a_worker_has_does_not_expire(patch: Patch) -> None:
    def mutant(entry: Entry, queue: str, begins_until_s: float) -> Run:
        return msgspec.structs.replace(order_of(entry, queue, begins_until_s), due_s=0.0)

    order_of = copies.order_of
    patch.setattr(assignments, "order_of", mutant)


def any_attempt_expires(patch: Patch) -> None:
    patch.setattr(expiries, "_FIRST", AnyRun())


class AnyRun:
    """Equals every run."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def what_may_have_begun_expires(patch: Patch) -> None:
    def mutant(self: Expiries, entry: Entry, arrival: Arrival, max_wait_s: float) -> Expiry | None:
        return of(self, Entry.of(arrival), arrival, max_wait_s)

    of = Expiries.of
    patch.setattr(Expiries, "of", mutant)


def what_expires_is_acked_and_no_dead_letter(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry) -> bool:
        if entry.expiry is None or not self.expiries.is_over(entry.expiry):
            return False
        self.decisions.record(entry, RowState.DEAD)
        self._settle(entry)
        return True

    patch.setattr(Settlement, "expires", mutant)


def only_the_next_attempt_ends_a_wait(patch: Patch) -> None:
    """As if a message always came back."""

    def mutant(entry: Entry, arrival: Arrival, dedupe: str) -> tuple[Meaning, str]:
        meaning, why = meaning_beside(entry, arrival, dedupe)
        is_next = (arrival.round, arrival.attempt) == (entry.round, entry.attempt + 1)
        proof = meaning in (Meaning.COPY, Meaning.OVERTAKEN)
        return (Meaning.AFTER, "") if proof and not is_next and entry.phase is Phase.COPYING else (meaning, why)

    meaning_beside = admission.meaning_beside
    patch.setattr(admission, "meaning_beside", mutant)


def what_another_daemon_carries_on_is_waited_for(patch: Patch) -> None:
    def mutant(self: Settlement, entry: Entry, meaning: Meaning) -> None:
        go_on(self, entry, Meaning.AFTER if meaning is Meaning.OVERTAKEN else meaning)

    go_on = Settlement._go_on
    patch.setattr(Settlement, "_go_on", mutant)


def what_has_come_before_the_decision_proves_nothing(patch: Patch) -> None:
    patch.setattr(admission, "meaning_behind", lambda entry, dedupe: Meaning.AFTER)


def letters_that_come_back_prove_nothing(patch: Patch) -> None:
    patch.setattr(admission, "_was_given_up", lambda arrival, round_: False)


def an_empty_queue_ends_no_wait(patch: Patch) -> None:
    patch.setattr(Settlement, "queue_is_empty", lambda self: None)


FOUND_IN: dict[Callable[[Patch], None], Laws] = {
    pending_counts_as_final: Laws(ONE, faults=3),
    any_run_of_an_id_matches: Laws(ONE, faults=3),
    dead_copies_stay_in_their_round: Laws(ONE, faults=3, max_attempts=1),
    owned_is_sent_again_before_hello_or_exit_notice: Laws(ONE, faults=2),
    the_tail_runs_ahead_of_the_outcomes_taken: Laws((b"a", b"b"), faults=1),
    done_before_the_publishes_are_confirmed: Laws(ONE, publishes=True, faults=1),
    a_tag_is_acked_in_another_epoch: Laws(ONE, faults=1),
    effects_come_before_the_commit: Laws(ONE, faults=2),
    acked_before_the_copy_is_confirmed: Laws(ONE, faults=1),
    the_unbegun_are_charged: Laws((b"a", b"b"), workers=1, faults=1),
    the_running_one_counts_as_unbegun: Laws(ONE, faults=1),
    in_doubt_is_run_again_though_to_be_parked: Laws(ONE, faults=1, on_crash="park"),
    newer_runs_that_wait_are_forgotten: Laws(ONE, faults=2),
    done_is_not_recorded: Laws(ONE, faults=1),
    publications_lost_with_the_connection_stay_lost: Laws(ONE, faults=2),
    what_hello_does_not_name_stays_owned: Laws(ONE, faults=2),
    a_given_up_message_without_id_is_still_expected: Laws(ONE, ids=False, workers=1, faults=2),
    open_rows_without_an_id_are_kept_for_ever: Laws(ONE, ids=False, faults=2),
    the_newest_run_goes_at_once: Laws(ONE, faults=2),
    a_repetition_goes_ahead_of_what_a_worker_has: Laws(ONE, ids=False, faults=2),
    what_waits_for_a_refused_copy_takes_room: Laws(
        (b"a", b"b"), faults=1, max_attempts=1, window=1, refuses=("q.dead",)
    ),
    a_refused_copy_counts_as_placed: Laws(ONE, faults=2),
    a_refused_copy_is_given_up: Laws(ONE, faults=1, max_attempts=1, refuses=("q.dead",)),
    what_is_on_its_way_is_published_again_after_a_disconnect: Laws(ONE, faults=2, slow_disk=True),
    a_missing_message_that_comes_after_all_is_run: Laws(ONE, faults=3),
    a_missing_message_that_comes_after_all_is_a_duplicate: Laws(ONE, faults=3),
    effects_do_not_wait_for_the_disk: Laws(ONE, faults=1, slow_disk=True),
    tails_do_not_wait_for_the_disk: Laws(ONE, faults=1, slow_disk=True),
    a_hello_withdraws_nothing: Laws(ONE, faults=1, slow_disk=True),
    a_hello_withdraws_only_what_is_on_its_way_to_the_disk: Laws((b"a", b"b"), faults=1, slow_disk=True),
    a_hello_withdraws_only_what_waits_for_the_next_commit: Laws(ONE, faults=1, slow_disk=True),
    a_hello_withdraws_what_it_holds: Laws(ONE, faults=1, slow_disk=True),
    a_recall_goes_with_the_turn_under_way: Laws((b"a", b"b"), faults=1, slow_disk=True),
    a_recall_goes_before_its_own_turn: Laws((b"a", b"b"), faults=1, slow_disk=True),
    acks_are_kept_when_their_epoch_is_over: Laws(ONE, faults=1, slow_disk=True),
    acks_that_never_left_are_not_expected_back: Laws(ONE, ids=False, faults=1, slow_disk=True),
    marks_count_after_a_power_loss: Laws(ONE, faults=1, slow_disk=True),
    a_death_is_given_up_without_asking: Laws(ONE, faults=1, on_crash="inbox", max_attempts=1, deaths=1),
    the_first_death_is_charged: Laws(ONE, faults=1, on_crash="inbox", max_attempts=1),
    no_death_is_charged: Laws(ONE, faults=1, workers=1, on_crash="inbox", max_attempts=1, deaths=1),
    an_inbox_is_asked_until_it_answers: Laws(ONE, faults=1, workers=1, on_crash="inbox", max_attempts=1, deaths=2),
    a_copy_tells_nothing_of_earlier_attempts: Laws(ONE, faults=1, on_crash="inbox", max_attempts=1, deaths=2),
    the_database_of_a_death_is_forgotten: Laws(ONE, faults=1, workers=1, on_crash="inbox"),
    a_run_knows_nothing_of_earlier_ones_after_a_restart: Laws(
        ONE, faults=2, workers=1, on_crash="inbox", max_attempts=1, deaths=2
    ),
    the_letter_of_an_unanswered_question_tells_of_the_death_alone: Laws(
        ONE, faults=1, workers=1, on_crash="inbox", max_attempts=1, deaths=2, committed=True
    ),
    only_the_next_attempt_ends_a_wait: Laws(ONE, faults=4, workers=1, max_attempts=1, neighbour=True),
    what_another_daemon_carries_on_is_waited_for: Laws(ONE, faults=5, workers=1, neighbour=True),
    what_has_come_before_the_decision_proves_nothing: Laws(ONE, faults=4, workers=1, neighbour=True),
    letters_that_come_back_prove_nothing: Laws(ONE, faults=4, workers=1, max_attempts=1, neighbour=True),
    an_empty_queue_ends_no_wait: Laws(ONE, faults=3, workers=1, neighbour=True),
    expiry_is_only_looked_at_on_arrival: Laws(ONE, faults=2, expires=True),
    what_a_worker_has_does_not_expire: Laws(ONE, faults=2, expires=True),
    any_attempt_expires: Laws(ONE, faults=2, expires=True),
    what_may_have_begun_expires: Laws(ONE, ids=False, faults=2, expires=True),
    what_expires_is_acked_and_no_dead_letter: Laws(ONE, faults=1, expires=True),
}
DEPTH = 10


@pytest.mark.parametrize("mutant", FOUND_IN, ids=lambda mutant: mutant.__name__)
def test_the_model_check_finds(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    world = World(FOUND_IN[mutant])
    for event in [event for event in possible(world, faults=False) if event.name == "hello"]:
        happen(world, event)
    with pytest.raises(Broken):
        explore(world, DEPTH, rest_every=2)
