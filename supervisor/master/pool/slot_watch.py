"""Looks now and then whether the slots of living workers are whole. Master only.

A worker whose slot was cut short or overwritten cannot record what it does: no limit applies to it any more, and its
outcomes are lost. It is killed, and all that was dispatched to it is in doubt; the next one gets a new file.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Collection

from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.signalling import send

LOOK_S = 2.0

DAMAGED_SLOT = "damaged slot"
"""In `requested_by` of the exit record."""


class SlotWatch:
    """`due_s`: when `turn` is needed next (CLOCK_MONOTONIC)."""

    does = "end workers of damaged slots"

    def __init__(self, pools: Collection[Pool], now_s: float) -> None:
        self._pools = pools
        self.due_s = now_s + LOOK_S

    def turn(self, now_s: float) -> None:
        """End the workers whose slots are damaged."""
        if now_s < self.due_s:
            return
        self.due_s = now_s + LOOK_S
        for pool in self._pools:
            for spec in pool.workers:
                _look(pool, spec, now_s)


def _look(pool: Pool, spec: ChildSpec, now_s: float) -> None:
    child = spec.child
    if child is None or spec.slot is None or child.killed_s is not None:
        return
    slot = pool.slots[spec.slot]
    fault = slot.fault() or ("" if slot.identity() else f"{slot.path}: does not name its worker")
    if fault:
        child.blame(DAMAGED_SLOT)
        text = f"{fault}; {child.name} cannot record its runs and is ended"
        log(Event.SLOT_DAMAGED, text, level=logging.ERROR, pool=pool.name, slot=spec.slot, pid=child.pid)
        send(child, signal.SIGKILL, now_s)
