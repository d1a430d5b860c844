"""Throughput without a broker: the rate from samples, copies of a message, targets from rates."""

from __future__ import annotations

import random

import pika
import pytest
from pika import frame, spec

from benchmarks.bench.apps import preforkd_handlers
from benchmarks.bench.apps.work import WORK
from benchmarks.bench.filler import Template, copies, plain
from benchmarks.bench.gauge import Sample, rate
from benchmarks.bench.loads import loads
from benchmarks.bench.throughput import QUICK_ROWS, ROWS, targets

# ---- the gauge ------------------------------------------------------------------------------------------------------


def test_the_clock_starts_when_a_tenth_is_settled_and_stops_when_all_are() -> None:
    boot = [Sample(0, 1000), Sample(9_000_000, 1000)]
    work = [Sample(10_000_000, 900), Sample(10_500_000, 300), Sample(11_000_000, 0)]

    assert rate(boot + work) == 900


def test_the_clock_starts_at_what_was_seen_not_at_the_tenth_itself() -> None:
    assert rate([Sample(0, 1000), Sample(5_000_000, 700), Sample(6_000_000, 0)]) == 700


def test_a_queue_that_was_not_worked_off_has_no_rate() -> None:
    with pytest.raises(AssertionError, match="3 of 1000 messages were not settled"):
        rate([Sample(0, 1000), Sample(1_000_000, 3)])


def test_a_queue_that_was_worked_off_between_two_samples_has_no_rate() -> None:
    with pytest.raises(AssertionError, match="too few"):
        rate([Sample(0, 10), Sample(1, 0)])


# ---- the filler -----------------------------------------------------------------------------------------------------


def _published(written: bytes) -> list[tuple[spec.Basic.Publish, pika.BasicProperties, bytes]]:
    frames = []
    while written:
        length, found = frame.decode_frame(written)
        frames.append(found)
        written = written[length:]
    assert len(frames) % 3 == 0
    parts = zip(frames[::3], frames[1::3], frames[2::3], strict=True)
    return [(method.method, header.properties, body.fragment) for method, header, body in parts]


def test_every_copy_has_an_id_of_its_own_and_is_otherwise_the_same() -> None:
    messages = _published(b"".join(copies(plain(512), "work", 1200, random.Random(1))))

    assert len({properties.message_id for _, properties, _ in messages}) == len(messages) == 1200
    assert {method.routing_key for method, _, _ in messages} == {"work"}
    assert {properties.delivery_mode for _, properties, _ in messages} == {2}
    assert {len(body) for _, _, body in messages} == {512}
    assert all(body.startswith(properties.message_id.encode()) for _, properties, body in messages)


def test_a_peer_s_message_is_renamed_wherever_its_id_stands() -> None:
    name = "0c8e5a3e-53f8-4f0b-a1a5-1b7f3b8c2a10"
    properties = pika.BasicProperties(correlation_id=name, headers={"id": name, "task": "handle"})

    (_, found, body), *_ = _published(
        b"".join(copies(Template(properties, f'{{"message_id": "{name}"}}'.encode(), name), "q", 1, random.Random(1)))
    )

    assert found.correlation_id == found.headers["id"] != name
    assert body == f'{{"message_id": "{found.headers["id"]}"}}'.encode()
    assert found.headers["task"] == "handle"


def test_the_same_seed_makes_the_same_messages() -> None:
    assert list(copies(plain(64), "q", 3, random.Random(7))) == list(copies(plain(64), "q", 3, random.Random(7)))


# ---- rows and targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [ROWS, QUICK_ROWS])
def test_every_row_has_a_name_of_its_own_and_its_peer_runs_too(rows: list[object]) -> None:
    names = [row.name for row in rows]

    assert len(set(names)) == len(names)
    assert {row.peer for row in rows if row.peer} <= set(names)


def test_every_load_begins_with_preforkd() -> None:
    rows = loads("export X=1; exec ")

    firsts = {row.load: row.who for row in reversed(rows)}
    assert all(who.startswith("preforkd") for who in firsts.values())
    assert len({row.name for row in rows}) == len(rows)


def test_without_a_compiler_only_the_slow_disk_is_left_out() -> None:
    assert {row.load for row in loads("x")} - {row.load for row in loads("")} == {
        "fdatasync takes 5 ms, prefetch 64",
        "fdatasync takes 5 ms, prefetch 500",
    }


def test_preforkd_has_a_handler_for_all_work() -> None:
    assert {name for name in WORK if callable(getattr(preforkd_handlers, name, None))} == set(WORK)


def test_targets_are_judged_by_the_best_way_to_run_each_and_round_by_round() -> None:
    rates = {row.name: [100.0, 200.0, 300.0] for row in ROWS}
    rates["preforkd 4 workers, classic, 500"] = [150.0, 300.0, 450.0]
    rates["dramatiq 2 x 1, classic, 2 x 2"] = [10.0, 10.0, 10.0]
    rates["dramatiq 2 x 8, classic, 2 x 16"] = [50.0, 50.0, 50.0]
    rates["Celery -c 2, classic, 2 x 4"] = [10.0, 10.0, 10.0]

    judged = {target.name: (target.value, target.outcome) for target in targets(rates)}

    assert judged == {
        "throughput, 4 workers, classic, best of prefetch 200, 500: of the bare pika loop's": (1.5, "aim"),
        "throughput, 4 workers, quorum, best of prefetch 200, 500: of the bare pika loop's": (1.0, "must"),
        "throughput, 4 workers, classic, default prefetch: of the bare pika loop's": (1.0, "aim"),
        "throughput, 4 workers, quorum, default prefetch: of the bare pika loop's": (1.0, "aim"),
        "throughput, 4 workers, classic, best of each: of dramatiq's": (1.5, "missed"),
        "throughput, 4 workers, classic, default prefetch: of dramatiq's": (4.0, "aim"),
        "throughput, 4 workers, classic, best of each: of Celery's": (1.5, "missed"),
        "throughput, 4 workers, classic, default prefetch: of Celery's": (20.0, "aim"),
    }


def test_who_did_not_run_is_not_judged() -> None:
    rates = {row.name: [100.0] for row in QUICK_ROWS}

    assert targets(rates)[-1].outcome == "not measured"
    assert not [target for target in targets(rates) if "quorum" in target.name]
