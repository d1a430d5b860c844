"""What a ledger row and a waiting message say to a person, as plain values that JSON can hold."""

from __future__ import annotations

import json

import msgspec

from supervisor.consumer.observe.traces import trace_of, trace_of_waiting
from supervisor.consumer.settlement.messages import Entry, Failure
from supervisor.ledger.base import Row, RowState

FAILURE = Failure("failed", "ValueError: no", "email/3", "the stack", delay_s=2.0, at_s=1.5)


def test_a_row_says_where_the_message_is_and_why_its_last_run_failed() -> None:
    row = Row(b"k" * 24, 2, 3, RowState.DEAD, -1, 0, 61.0, "m", msgspec.msgpack.encode(FAILURE))
    trace = msgspec.to_builtins(trace_of("email", row))
    assert (trace["state"], trace["round"], trace["attempt"], trace["worker"]) == ("dead", 2, 3, "")
    assert trace["at"] == "1970-01-01T00:01:01.000Z"
    assert trace["failure"]["at"] == "1970-01-01T00:00:01.500Z"
    assert {"cause": "failed", "reason": "ValueError: no", "stack": "the stack"}.items() <= trace["failure"].items()
    assert json.loads(json.dumps(trace)) == trace


def test_a_row_of_a_run_under_way_names_its_worker_and_no_failure() -> None:
    trace = msgspec.to_builtins(trace_of("email", Row(b"k" * 24, 1, 1, RowState.DISPATCHED, 3, 7, 0.0, "m")))
    assert (trace["state"], trace["worker"], trace["failure"]) == ("dispatched", "email/3", None)


def test_a_waiting_message_has_no_time_and_no_worker() -> None:
    trace = msgspec.to_builtins(trace_of_waiting(Entry(b"k" * 24, "m", 1, 2)))
    assert (trace["state"], trace["attempt"], trace["at"], trace["worker"]) == ("waiting", 2, "", "")


def test_what_is_kept_of_a_long_stack_is_both_its_ends() -> None:
    short = msgspec.structs.replace(FAILURE, stack="first" + "." * 9000 + "last").in_short.stack
    assert short.startswith("first")
    assert short.endswith("last")
    assert len(short) < 2100
    assert FAILURE.in_short == FAILURE
