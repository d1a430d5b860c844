"""Any sequence of marks, by workers that come and go, says to a fresh reader what a plain Python model says."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.scoreboard import layout
from supervisor.scoreboard.words import OutcomeKind
from tests.support.slots import (
    assert_seeded,
    assert_seeded_cell,
    mark_seeded,
    mark_seeded_outcome,
    opened_slots,
)


class SlotModel(RuleBasedStateMachine):
    """`cells` is what the ring has ever held, `running` the seed of the open run."""

    @initialize()
    def open(self) -> None:
        self.resources = ExitStack()
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.open_slot = self.resources.enter_context(opened_slots())
        self.path = Path(folder) / "0.slot"
        self.reader = self.open_slot(self.path)
        self.generation = self.tail = self.base = 0
        self.cells: list[tuple[int, OutcomeKind, int]] = []
        self.running: int | None = None
        self.seed = 0
        self.take()

    def teardown(self) -> None:
        self.resources.close()

    @rule()
    def take(self) -> None:
        """The worker, whatever it was at, is followed by another one."""
        former, self.generation = self.generation, self.generation + 1
        self.worker = self.open_slot(self.path)
        assert self.worker.take(4711, 99, self.generation)
        if self.running is not None:
            self.cells.append((self.running, OutcomeKind.IN_DOUBT, former))
            self.running = None
        self.base = len(self.cells)

    @precondition(lambda self: self.running is None and self.worker.free_cell())
    @rule(size=st.integers(0, 400))
    def begin(self, size: int) -> None:
        self.seed += 400 + size
        self.running = self.seed
        mark_seeded(self.worker, self.seed)

    @precondition(lambda self: self.running is not None)
    @rule()
    def extend(self) -> None:
        assert self.running is not None
        self.worker.mark_extended(self.running + 30.0)

    @precondition(lambda self: self.running is not None)
    @rule()
    def finish(self) -> None:
        assert self.running is not None
        assert mark_seeded_outcome(self.worker, self.running) == len(self.cells)
        self.cells.append((self.running, OutcomeKind.FAILED, self.generation))
        self.running = None

    @precondition(lambda self: self.worker.free_cell() and self.running is None)
    @rule(count=st.integers(1, layout.CELLS))
    def burst(self, count: int) -> None:
        for _ in range(count):
            if self.worker.free_cell():
                self.begin(7)
                self.finish()

    @rule(share=st.floats(0, 1))
    def commit(self, share: float) -> None:
        self.tail += round((len(self.cells) - self.tail) * share)
        self.reader.advance_tail(self.tail)

    @invariant()
    def a_reader_sees_the_model(self) -> None:
        if not hasattr(self, "reader"):
            return
        running = self.reader.running()
        assert (None if running is None else assert_seeded(running)) == self.running
        found = [(assert_seeded_cell(cell), cell.kind, cell.generation) for cell in self.reader.cells(self.tail)]
        assert found == self.cells[self.tail :]
        assert self.reader.handled == len(self.cells) - self.base
        assert self.worker.free_cell() == (len(self.cells) - self.tail < layout.CELLS)
        assert self.reader.tail == self.tail


SlotModel.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSlotModel = SlotModel.TestCase
