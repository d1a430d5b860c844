"""Another daemon in a modelled world: it shares queue and ledger, and takes one message at a time.

Every function is one thing that can happen, as the methods of the world are. The consumer hears of none of them.
"""

from __future__ import annotations

from supervisor.consumer.settlement import copies
from supervisor.ledger.base import Row, RowState
from tests.support.settlement_parts import QUEUE, Broken, Copy, key_of
from tests.support.settlement_world import World

RIVAL = 99
"""The epoch of its rows."""


def may_claim(world: World, found: Copy) -> bool:
    """Whether it is given this message if it asks for it now."""
    return world.rival is None and world.ledger.grants(_row(world, found, RowState.DISPATCHED))


def claim(world: World, index: int) -> bool:
    """It begins a run of a message that is ready: I2 and I3 hold for both daemons together."""
    world.rival = world.ready.pop(index)
    row = _row(world, world.rival, RowState.DISPATCHED)
    world.ledger.others[row.key] = row
    if any(slot.alive and slot.running and slot.running.key == row.key for slot in world.slots):
        raise Broken(f"I3: another daemon begins {row.id}, which runs here")
    if row.key in world.done:
        raise Broken(f"I2: another daemon begins {row.id} after it was done")
    return False


def done(world: World, _what: int) -> bool:
    """Its run ends, and its delivery is acked."""
    key = _end(world, RowState.DONE)
    world.done, world.done_rows = world.done | {key}, world.done_rows | {key}
    return False


def give_back(world: World, _what: int) -> bool:
    """It had not begun."""
    if world.rival_linked and world.rival is not None:
        world.ready.append(world.rival)
    _end(world, RowState.RETURNED)
    return False


def disconnect(world: World, _what: int) -> bool:
    """The broker has its message back, and it does not stop."""
    if world.rival is not None:
        world.ready.append(world.rival)
    world.rival_linked = False
    return False


def _end(world: World, state: RowState) -> bytes:
    assert world.rival is not None
    row = _row(world, world.rival, state)
    world.ledger.others[row.key] = row
    world.rival, world.rival_linked = None, True
    return row.key


def _row(world: World, found: Copy, state: RowState) -> Row:
    run = copies.stamp(found.delivered(world.epoch, 0), QUEUE) or (1, 1)
    return Row(key_of(found.id or "", found.body), *run, state, 0, 0, 0.0, found.id or "", b"", RIVAL)
