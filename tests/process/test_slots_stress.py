"""Marks under fire: writers killed anywhere, readers reading all the time; nothing torn, lost or invented."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import OutcomeKind
from tests.support.forked import forked, kill_and_reap
from tests.support.slots import (
    OpenSlot,
    assert_seeded,
    assert_seeded_cell,
    mark_seeded,
    mark_seeded_outcome,
    opened_slots,
)

LIVES = 120
READS, CHANGES = 20_000, 20
BEGUN, FINISHED = 0, 1


@pytest.fixture
def open_slot() -> Iterator[OpenSlot]:
    with opened_slots() as opener:
        yield opener


@pytest.fixture
def diary() -> memoryview:
    """Two words shared with the children: what a writer knows for certain about its own last run."""
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")


def working(path: Path, generation: int, seed: int, diary: memoryview) -> Callable[[], None]:
    """A worker that runs messages as fast as the consumer empties its ring."""

    def work() -> None:
        slot, run = Slot(path), seed
        assert slot.take(os.getpid(), 1, generation)
        while True:
            while not slot.free_cell():
                os.sched_yield()
            run += 1
            mark_seeded(slot, run)
            diary[BEGUN] = run
            mark_seeded_outcome(slot, run)
            diary[FINISHED] = run

    return work


class Consumer:
    """Takes outcomes as they come and checks that they are whole, in order and without a gap."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.seeds: list[int] = []
        self.kinds: list[OutcomeKind] = []

    def take(self) -> None:
        cells = self.slot.cells(self.slot.tail)
        for cell in cells:
            assert cell.index == len(self.seeds)
            self.seeds.append(assert_seeded_cell(cell))
            self.kinds.append(cell.kind)
        self.slot.advance_tail(self.slot.tail + len(cells))

    def read(self) -> None:
        running = self.slot.running()
        if running is not None:
            assert_seeded(running)


def test_kill_9_at_any_point_loses_no_mark_and_invents_none(
    open_slot: OpenSlot, tmp_path: Path, diary: memoryview
) -> None:
    chance = random.Random(4711)
    consumer = Consumer(open_slot(tmp_path / "0.slot"))
    for generation in range(1, LIVES + 1):
        enough = len(consumer.seeds) + chance.randrange(1, 200)
        with forked(working(consumer.slot.path, generation, generation * 1_000_000, diary)) as pid:
            while len(consumer.seeds) < enough:
                consumer.read()
                consumer.take()
            for _ in range(chance.randrange(100)):
                consumer.read()
            kill_and_reap(pid)
        consumer.take()
        _assert_the_dead_told_the_truth(consumer, diary)
    assert consumer.slot.take(os.getpid(), 1, LIVES + 1)
    consumer.take()
    assert consumer.seeds == sorted(set(consumer.seeds))
    assert OutcomeKind.IN_DOUBT in consumer.kinds
    assert sum(kind is OutcomeKind.IN_DOUBT for kind in consumer.kinds) <= LIVES


def _assert_the_dead_told_the_truth(consumer: Consumer, diary: memoryview) -> None:
    begun, finished = diary[BEGUN], diary[FINISHED]
    running = consumer.slot.running()
    assert finished <= consumer.seeds[-1] <= finished + 1  # an outcome that was marked is in the ring
    if running is None:
        assert consumer.seeds[-1] >= begun  # no run that began is without a trace
    else:
        assert assert_seeded(running) in (begun, begun + 1)
        assert running.number == len(consumer.seeds) + 1


def test_a_reader_never_sees_a_torn_or_missing_run_while_the_writer_writes(open_slot: OpenSlot, tmp_path: Path) -> None:
    reader = open_slot(tmp_path / "0.slot")
    mark_first, marked = os.pipe()

    def write() -> None:
        slot, seed = Slot(reader.path), 0
        assert slot.take(os.getpid(), 1, 1)
        mark_seeded(slot, seed)
        os.write(marked, b"!")
        while True:
            seed += 1
            mark_seeded(slot, seed)

    with forked(write):
        os.read(mark_first, 1)
        last = changes = reads = 0
        while reads < READS or changes < CHANGES:
            reads += 1
            running = reader.running()
            assert running is not None
            seed = assert_seeded(running)
            assert seed >= last
            changes += seed > last
            last = seed
    os.close(mark_first)
    os.close(marked)
