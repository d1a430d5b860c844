"""Another daemon in a modelled world: it shares the queue, and has a ledger of its own.

What it takes it settles in one step. The consumer hears of none of that: it may wait for a message that has gone there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.consumer.settlement import copies
from supervisor.consumer.settlement.messages import Entry, Phase
from supervisor.consumer.settlement.missing import MISSING_S
from supervisor.ledger.base import RowState
from tests.support.settlement_parts import FAILED, QUEUE, Broken, Copy, key_of

if TYPE_CHECKING:  # the world calls these
    from tests.support.settlement_world import World


def done(world: World, index: int) -> bool:
    """It runs a message that was ready, and acks it."""
    found = world.ready.pop(index)
    world.done_elsewhere |= {key_of(found.id or "", found.body)}
    return False


def fail(world: World, index: int) -> bool:
    """Its run fails: it makes the copy that follows, and acks the original."""
    entry = _entry(world, world.ready.pop(index))
    world.run_elsewhere |= {entry.run}
    entry.pending = RowState.RETRY_PENDING if entry.attempt < world.laws.max_attempts else RowState.DEAD_PENDING
    world.take_copy(copies.copy_of(entry, QUEUE, "elsewhere", 0))
    return False


def queue_is_empty(world: World, _what: int) -> bool:
    """The broker says so, again and again for a while."""
    settlement = world.settlement
    held_up = [entry for entry in settlement.entries.values() if entry.delivery is None and entry.later]
    if any(entry.phase is Phase.COPYING for entry in held_up):
        raise Broken(f"{held_up[0].run} is missing and holds up {held_up[0].later[0].attempt}")
    settlement.queue_is_empty()
    settlement.decisions.now_s += MISSING_S
    settlement.queue_is_empty()
    return True


def _entry(world: World, found: Copy) -> Entry:
    delivery = found.delivered(world.epoch, 0)
    run = copies.stamp(delivery, QUEUE) or (1, 1)
    entry = Entry(key_of(found.id or "", found.body), found.id or "", *run)
    entry.delivery, entry.failure = delivery, FAILED
    return entry
