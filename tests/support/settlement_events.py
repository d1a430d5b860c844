"""All that can happen in a modelled world around the settlement: a table, and the ways to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from supervisor.consumer.settlement.messages import Phase
from tests.support import settlement_inbox as inbox
from tests.support import settlement_neighbour as neighbour
from tests.support import settlement_rival as rival
from tests.support.settlement_parts import Copy, Event, SlotModel
from tests.support.settlement_world import World


def possible(world: World, faults: bool = True) -> Iterator[Event]:
    """All that can happen now, with or without faults."""
    for name, (things, fault, _action) in _EVENTS.items():
        if not fault or (faults and world.faults):
            yield from (Event(name, what) for what in things(world))


def happen(world: World, event: Event) -> int:
    """Let it happen; where the consumer hears of it, with its turn, whose number of steps is returned."""
    _things, fault, action = _EVENTS[event.name]
    world.faults -= fault
    if not action(world, event.what):
        return 0
    world.heard += 1
    return world.turn(event.crash_after) if world.heard >= world.laws.together else 0


def _slots(test: Callable[[SlotModel], object]) -> Callable[[World], list[int]]:
    return lambda world: [number for number, slot in enumerate(world.slots) if test(slot)]


def _kinds(found: list[Copy]) -> list[int]:
    """The first of each kind: equal copies have equal futures."""
    return [found.index(one) for one in dict.fromkeys(found)]


def _flights(accepted: bool, taken: bool = True) -> Callable[[World], list[int]]:
    return lambda world: [
        number
        for number, flight in enumerate(world.flights)
        if flight.accepted is accepted and (accepted or world.takes(flight.outgoing) is taken)
    ]


def _has_room(world: World) -> bool:
    """Whether the broker may deliver one more."""
    aside = {tag for epoch, tag in world.settlement.publications.set_aside() if epoch == world.epoch}
    return len(world.unacked.keys() - aside) < world.laws.window


def _timers(vain: bool) -> Callable[[World], list[int]]:
    """The timers of copies that would be refused once more, or the others."""

    def found(world: World) -> list[int]:
        publications = world.settlement.publications
        return [
            number
            for number, token in enumerate(world.timers)
            if (token in publications.refused and not world.takes(publications._outgoing[token][1])) is vain
        ]

    return found


def _may_claim_again(world: World) -> bool:
    """Whether messages are held and the other daemon has got on since: equal claims have equal answers."""
    held = world.settlement.assignments.held
    others = (world.ledger.others.get(key) for key in held)
    return any(row is None or not row.state.open for row in others)


def _missing(world: World) -> list[int]:
    """Decided messages that the broker has not brought back: the numbers of their entries."""
    entries = world.settlement.entries.values()
    return [number for number, entry in enumerate(entries) if entry.phase is Phase.COPYING and entry.delivery is None]


_EVENTS: dict[str, tuple[Callable[[World], Iterable[int]], bool, Callable[[World, int], bool]]] = {
    "settle": (lambda world: range(world.heard > 0), False, World.settle),
    "disk_done": (lambda world: range(bool(world.committing) and not world.synced), False, World.disk_done),
    "exit_notice": (_slots(lambda slot: slot.exit_notices), False, World.exit_notice),
    "respawn": (_slots(lambda slot: not slot.alive), False, World.respawn),
    "hello": (_slots(lambda slot: slot.may_greet), False, World.hello),
    "rival_done": (lambda world: range(world.rival is not None), False, rival.done),
    "resume": (lambda world: range(world.paused), False, World.resume),
    "deliver": (
        lambda world: _kinds(world.ready) if _has_room(world) and not world.paused else [],
        False,
        World.deliver,
    ),
    "claim_again": (lambda world: range(_may_claim_again(world)), False, World.claim_again),
    "start": (_slots(lambda slot: slot.held and not slot.running), False, World.start),
    "use_inbox": (
        lambda world: _slots(lambda slot: slot.may_finish and not slot.used)(world) if world.has_inbox else [],
        False,
        inbox.use,
    ),
    "finish": (
        lambda world: _slots(lambda slot: slot.may_finish and (slot.used or not world.has_inbox))(world),
        False,
        World.finish,
    ),
    "hear": (_slots(lambda slot: slot.linked and len(slot.ring) > slot.taken), False, World.hear),
    "accept": (_flights(False), False, World.accept),
    "turn_down": (_flights(False, taken=False), False, World.refuse),
    "confirm": (_flights(True), False, World.confirm),
    "come_due": (lambda world: _kinds(world.delayed), False, World.come_due),
    "time": (_timers(vain=False), False, World.time),
    "return_recalled": (_slots(lambda slot: slot.linked and slot.returning), False, World.return_recalled),
    "reopen": (lambda world: range(bool(world.closed)), False, World.reopen),
    "queue_is_empty": (
        lambda world: range(world.laws.neighbour and not world.ready and bool(_missing(world))),
        False,
        neighbour.queue_is_empty,
    ),
    "time_in_vain": (_timers(vain=True), True, World.time),
    "fail": (_slots(lambda slot: slot.may_finish), True, World.fail),
    "return": (_slots(lambda slot: slot.linked and slot.held), True, World.return_),
    "unlink": (_slots(lambda slot: slot.linked), True, World.unlink),
    "worker_death": (_slots(lambda slot: slot.alive), True, World.worker_death),
    "power_loss": (lambda world: range(2 * world.laws.slow_disk), True, World.power_loss),
    "refuse": (_flights(False), True, World.refuse),
    "lose": (lambda world: range(len(world.flights)), True, World.lose),
    "disconnect": (lambda world: [0], True, World.disconnect),
    "give_up_missing": (_missing, True, World.give_up_missing),
    "pause": (lambda world: range(not world.paused), True, World.pause),
    "grow_late": (lambda world: range(world.laws.expires and not world.late), True, World.grow_late),
    "retry_dead": (lambda world: _kinds(world.dead), True, World.retry_dead),
    "rival_return": (lambda world: range(world.rival is not None), True, rival.give_back),
    "rival_disconnect": (
        lambda world: range(world.rival is not None and world.rival_linked),
        True,
        rival.disconnect,
    ),
    "rival_claim": (
        lambda world: [i for i in _kinds(world.ready) if world.laws.rival and rival.may_claim(world, world.ready[i])],
        True,
        rival.claim,
    ),
    "neighbour_done": (lambda world: _kinds(world.ready) if world.laws.neighbour else [], True, neighbour.done),
    "neighbour_fail": (lambda world: _kinds(world.ready) if world.laws.neighbour else [], True, neighbour.fail),
    "consumer_death": (
        lambda world: range(1 + any(slot.exit_notices for slot in world.slots)),
        True,
        World.consumer_death,
    ),
}
"""What can happen: to which things, whether it is a fault (their number is limited), and how. Rest comes by taking the
first possible event without fault again and again."""
