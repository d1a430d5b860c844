"""A child spec from one start to the next: what each step changes, and what it leaves."""

from __future__ import annotations

import pytest

from supervisor.master.pool.children import Child, ChildSpec, Kind
from supervisor.scoreboard.words import Intent


def child(**fields: object) -> Child:
    return Child("email", Kind.WORKER, 0, 4711, 1, 7, 0.0, **fields)  # type: ignore[arg-type]


@pytest.fixture
def spec() -> ChildSpec:
    return ChildSpec("email", Kind.WORKER, 0, due_s=0.0)


def test_an_ordered_worker_is_awaited_and_not_due(spec: ChildSpec) -> None:
    spec.order(7, origin=3)
    assert (spec.ordered, spec.origin, spec.due_s, spec.empty) == (7, 3, None, False)
    spec.started(worker := child())
    assert (spec.child, spec.ordered, spec.ready) == (worker, None, False)
    worker.became_ready(5.0)
    assert spec.ready


def test_a_failed_order_is_due_again_and_keeps_the_reason_unless_there_is_another(spec: ChildSpec) -> None:
    spec.order(7, origin=3)
    spec.not_started(9.0, "no more processes")
    assert (spec.empty, spec.due_s, spec.why) == (True, 9.0, "no more processes")
    spec.order(8, origin=3)
    spec.not_started(10.0)
    assert spec.why == "no more processes"


def test_the_end_of_a_child_leaves_the_former_reason_where_it_was_expected(spec: ChildSpec) -> None:
    spec.started(child())
    spec.ended("email/0 left: crash (SIGSEGV)")
    spec.replaced(9.0)
    spec.started(child())
    spec.ended(None)
    assert (spec.child, spec.why, spec.restarts) == (None, "email/0 left: crash (SIGSEGV)", 1)


def test_a_child_that_is_not_replaced_is_counted_and_never_due(spec: ChildSpec) -> None:
    spec.started(child())
    spec.ended(None)
    spec.not_replaced()
    assert (spec.deaths, spec.restarts, spec.due_s) == (1, 0, None)


def test_progress_ends_a_hold_and_keeps_the_reason_until_it_is_cleared(spec: ChildSpec) -> None:
    spec.count_death()
    spec.hold()
    spec.report("it crashes")
    spec.progressed()
    assert (spec.deaths, spec.held, spec.on_probation, spec.why) == (0, False, False, "it crashes")
    spec.clear()
    assert spec.why == ""


def test_only_an_empty_child_spec_is_started_at_once_when_it_is_forgiven(spec: ChildSpec) -> None:
    spec.not_started(99.0)
    spec.forgive()
    assert spec.due_s == 0.0
    spec.started(child())
    spec.forgive()
    assert spec.due_s is None


def test_the_first_sigkill_counts() -> None:
    worker = child()
    worker.killed(5.0)
    worker.killed(9.0)
    worker.mark(Intent.STOP_KILL, "SIGTERM")
    assert (worker.killed_s, worker.intent, worker.requested_by) == (5.0, Intent.STOP_KILL, "SIGTERM")
