"""`preforkd why` has words for everything that is published: a new cause or state must be explained to be one."""

from __future__ import annotations

import pytest

from supervisor.cli.explanations import CAUSES, EXPECTED, POOLS, STATES, explain, explain_ending
from supervisor.consumer.observe.traces import HELD, WAITING
from supervisor.ledger.base import RowState
from supervisor.logs.events import Cause
from supervisor.master.pool.exit_records import NO_FIRST_FRAME
from supervisor.scoreboard.words import OutcomeKind

BAD_ENDINGS = {cause.value for cause in Cause} | {kind.value for kind in OutcomeKind if kind is not OutcomeKind.DONE}


def test_every_cause_of_an_exit_and_of_a_failed_run_is_explained() -> None:
    assert CAUSES.keys() >= BAD_ENDINGS


def test_every_state_of_a_message_is_explained() -> None:
    assert {WAITING, HELD, *(state.value for state in RowState)} == STATES.keys()


def test_every_state_of_a_pool_is_explained() -> None:
    assert {"starting", "ok", "degraded", "held", "paused", "stopping"} == POOLS.keys()


@pytest.mark.parametrize("cause", [cause.value for cause in Cause if cause.value not in EXPECTED])
def test_who_reads_of_trouble_is_told_what_to_do(cause: str) -> None:
    assert CAUSES[cause].next


@pytest.mark.parametrize("state", STATES)
def test_explanations_of_messages_name_nothing_but_queue_and_id(state: str) -> None:
    for text in STATES[state]:
        text.format(queue="q", id="m", letter="q m")


def test_a_word_of_another_version_stands_for_itself() -> None:
    assert explain(CAUSES, "sunspots").means == "sunspots"


@pytest.mark.parametrize(
    ("cause", "status", "signal", "told"),
    [
        ("crash", None, "SIGSEGV", "update C extensions"),
        ("crash", None, "SIGABRT", "update C extensions"),
        ("crash", 3, None, "the stack shows the call"),
        ("crash", 70, None, "the stack shows the call"),
        ("crash", 127, None, "the stack shows the call"),
        ("crash", None, "SIGKILL", "writes to descriptors it did not open"),
        ("boot_failed", 78, None, "`preforkd check` tests the same"),
        ("killed", None, "SIGKILL", "find the sender"),
    ],
)
def test_a_crash_is_explained_by_its_status_or_its_signal(
    cause: str, status: int | None, signal: str | None, told: str
) -> None:
    explanation = explain_ending(cause, status, signal)
    assert told in explanation.next
    assert ("C code" in explanation.means) == ("C extensions" in explanation.next)


def test_a_child_that_was_not_sent_its_first_frame_is_explained_by_that() -> None:
    explanation = explain_ending("crash", None, "SIGKILL", f"{NO_FIRST_FRAME}: Cannot allocate memory")
    assert "memory" in explanation.next
    assert explanation != explain_ending("crash", None, "SIGKILL", "")
