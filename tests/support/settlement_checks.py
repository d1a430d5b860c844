"""What must hold in a modelled world around the settlement, checked at the moment each rule could be broken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from supervisor.brokers.base import Outgoing
from supervisor.brokers.copy_headers import PREFIX
from supervisor.consumer.settlement.messages import EXPIRED
from supervisor.ledger.base import RowState
from supervisor.link.frames import RunId
from tests.support import settlement_inbox
from tests.support.settlement_parts import Broken, SlotModel, key_of
from tests.support.settlement_states import memories

if TYPE_CHECKING:  # the world calls these
    from tests.support.settlement_world import World


def check_kept(world: World, body: bytes, at_rest: bool = False) -> None:
    """I1: of each body at least as many are done (durably) or still with the broker as were sent.

    Until the world is at rest, what the queue has dropped may be in the consumer's memory, on its way back.
    """
    places = (
        [] if at_rest else world.dropped,
        world.ready,
        world.delayed,
        world.dead,
        world.parked,
        world.unacked.values(),
        [world.rival] if world.rival and world.rival_linked else [],
    )
    kept = sum(found.body == body for place in places for found in place)
    kept += sum(key.endswith(b"/" + body) for key in world.done_rows | world.done_elsewhere)
    if kept < Counter(world.laws.bodies)[body]:
        raise Broken(f"I1: a message {body!r} is acked and nowhere any more")


def check_start(world: World, run: RunId, mine: SlotModel) -> None:
    """I2 to I5, and no first run after its time, as a run begins."""
    others = [slot.running for slot in world.slots if slot.alive and slot.running and slot is not mine]
    there = world.ledger.others.get(run.key)
    if any(other.key == run.key for other in others) or (there is not None and there.state.open):
        raise Broken(f"I3: {run} runs twice at the same time")
    _check_repetition(world, run)
    if run.key in world.done and not (world.laws.neighbour and run.round > 1):
        raise Broken(f"I2: {run} begins after it was done")
    if run in world.started:
        raise Broken(f"I5: {run} begins again undeclared")
    former = RunId(run.key, run.round, run.attempt - 1)
    if run.attempt > 1 and former not in world.started | world.unproven | world.run_elsewhere:
        raise Broken(f"I4: {run} is charged for a run that never began")
    if world.late and (run.round, run.attempt) == (1, 1) and run not in world.warned:
        raise Broken(f"{run} begins after its time")
    if world.laws.on_crash == "park" and former in world.cut_off:
        raise Broken(f"I5: {run} follows a crash, which was to be parked")


def check_published(world: World, outgoing: Outgoing) -> None:
    """A message that has begun does not expire."""
    if (outgoing.properties.headers or {}).get(f"{PREFIX}cause") != EXPIRED:
        return
    key = key_of(outgoing.properties.message_id or "", outgoing.body)
    nameless = not world.laws.ids and world.laws.bodies.count(outgoing.body) == 1
    begun = [run for run in world.started if run.key == key or (nameless and run.key.endswith(b"/" + outgoing.body))]
    elsewhere = world.ledger.others.get(key)
    if begun or (elsewhere is not None and elsewhere.state is not RowState.RETURNED):
        raise Broken(f"{outgoing.properties.message_id} has begun, and expires")


def _check_repetition(world: World, run: RunId) -> None:
    """A message without an id that is like no other runs again only if the consumer died, and then says so.

    Or if it was saved by a copy, which may have been published twice; that says so, too.
    """
    if run.attempt > 1 or not any(world.laws.repeats(run, other) for other in world.started):
        return
    if world.remembers and not (world.delivery_limit is not None and run in world.warned):
        raise Broken(f"{run} has no id and runs again, though the consumer knew of its former run")
    if run not in world.warned:
        raise Broken(f"{run} has no id and runs again as if it were new")


def check_fed(world: World) -> None:
    """Nothing more can happen while queues refuse copies: what needs none of them must not wait for them."""
    if world.ready:
        raise Broken(f"starved by copies that are refused: {world.ready}")


def check_rest(world: World) -> None:
    """At rest nothing is lost, nothing is stuck, nothing is remembered that is over (I1, I6)."""
    for body in set(world.laws.bodies):
        check_kept(world, body, at_rest=True)
    left = memories(world.settlement) | {
        "unacked": world.unacked,
        "open rows": [row for row in world.ledger.rows.values() if row.state.open],
    }
    settlement_inbox.check_rest(world)
    stuck = {name: what for name, what in left.items() if what}
    if stuck:
        raise Broken(f"at rest, but not over: {stuck}")
