"""What a ride through chaos injects, and when: drawn from the seed alone, so that a ride can be repeated. Pure.

A strike is due once so many effects have happened, and what lasts is over after so many more: it is progress that
counts, not the clock. Where progress itself stands still, a fault's `timeout_s` ends it.
"""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a fault is done to."""

    PROCESS = "process"
    CONNECTION = "connection"
    BROKER = "broker"
    RESOURCE = "resource"


class Fault(StrEnum):
    """Everything that can be done to a daemon and its broker from outside."""

    KILL_WORKER = "kill -9 worker"
    KILL_CONSUMER = "kill -9 consumer"
    KILL_FORKSERVER = "kill -9 forkserver"
    KILL_MASTER = "kill -9 master"
    KILL_GROUP = "kill -9 everything"
    STOP_WORKER = "SIGSTOP worker"
    STOP_CONSUMER = "SIGSTOP consumer"
    STOP_FORKSERVER = "SIGSTOP forkserver"
    STOP_MASTER = "SIGSTOP master"
    STOP_GROUP = "SIGSTOP everything"
    HANG_CONSUMER = "SIGSTOP consumer until the broker gives it up"
    CLOSE_CONNECTIONS = "broker closes all connections"
    RESET = "network resets all connections"
    SILENCE = "network goes silent, no FIN"
    LOSE_ACKS = "network loses acks"
    DELAY = "network delays"
    KILL_BROKER = "kill -9 broker, restart"
    STOP_BROKER = "SIGSTOP broker beyond the heartbeat"
    MEMORY_ALARM = "memory alarm"
    DISK_ALARM = "disk alarm"
    ACK_TIMEOUT = "ack timeout closes the channel"
    DELETE_QUEUE = "queue deleted under the consumer"
    FULL_DISK = "disk of the ledger full"


class Trait(msgspec.Struct, frozen=True):
    """How a fault behaves: how often it is drawn, how many runs it can cut off, how long it lasts at the most.

    `cuts`: None for as many as there are workers.
    """

    kind: Kind
    weight: int
    cuts: int | None = 0
    timeout_s: float = 0.0


TRAITS: dict[Fault, Trait] = {
    Fault.KILL_WORKER: Trait(Kind.PROCESS, 80, cuts=1),
    Fault.KILL_CONSUMER: Trait(Kind.PROCESS, 8),
    Fault.KILL_FORKSERVER: Trait(Kind.PROCESS, 5),
    Fault.KILL_MASTER: Trait(Kind.PROCESS, 3),
    Fault.KILL_GROUP: Trait(Kind.PROCESS, 4, cuts=None),
    Fault.STOP_WORKER: Trait(Kind.PROCESS, 6, timeout_s=0.5),
    Fault.STOP_CONSUMER: Trait(Kind.PROCESS, 5, timeout_s=0.3),
    Fault.STOP_FORKSERVER: Trait(Kind.PROCESS, 3, timeout_s=0.5),
    Fault.STOP_MASTER: Trait(Kind.PROCESS, 3, timeout_s=0.5),
    Fault.STOP_GROUP: Trait(Kind.PROCESS, 2, timeout_s=0.3),
    Fault.HANG_CONSUMER: Trait(Kind.PROCESS, 1),
    Fault.CLOSE_CONNECTIONS: Trait(Kind.CONNECTION, 6),
    Fault.RESET: Trait(Kind.CONNECTION, 5),
    Fault.SILENCE: Trait(Kind.CONNECTION, 2),
    Fault.LOSE_ACKS: Trait(Kind.CONNECTION, 4, timeout_s=0.5),
    Fault.DELAY: Trait(Kind.CONNECTION, 3, timeout_s=1.0),
    Fault.KILL_BROKER: Trait(Kind.BROKER, 2),
    Fault.STOP_BROKER: Trait(Kind.BROKER, 1),
    Fault.MEMORY_ALARM: Trait(Kind.RESOURCE, 2, timeout_s=1.0),
    Fault.DISK_ALARM: Trait(Kind.RESOURCE, 2, timeout_s=1.0),
    Fault.ACK_TIMEOUT: Trait(Kind.RESOURCE, 1),
    Fault.DELETE_QUEUE: Trait(Kind.RESOURCE, 1),
    Fault.FULL_DISK: Trait(Kind.RESOURCE, 2),
}

OUTSIDE = tuple(fault for fault, trait in TRAITS.items() if trait.kind is not Kind.PROCESS)
"""Faults that touch none of the daemon's processes: seen from there, its connection is lost, or slow, or full."""


class Shape(msgspec.Struct, frozen=True):
    """What kind of ride: its size, the queue, the policy, the faults. `bare`, `failing`: shares of the messages.

    `classic_delays`: the delay queue is made beforehand, of the kind that loses messages when the broker is killed.
    """

    messages: int
    strikes: int
    queue_type: str = "quorum"
    on_crash: str = "retry"
    faults: tuple[Fault, ...] = tuple(TRAITS)
    workers: int = 4
    bare: float = 0.1
    failing: float = 0.02
    delay_s: float = 0.1
    classic_delays: bool = False


class Order(msgspec.Struct, frozen=True):
    """A message's body. `bare`: it has no id; `fails`: the first attempt does; `hold_s`: its handler's time."""

    name: str
    bare: bool
    fails: bool
    hold_s: float


class Strike(msgspec.Struct, frozen=True, order=True):
    """A fault, due after `due` effects, over after `span` more; `slot`: the worker that it is for."""

    due: int
    fault: Fault
    slot: int
    span: int


class Leg(msgspec.Struct, frozen=True):
    """Messages that are published together, and the strikes while they are worked off.

    `delete_queue`: when all of them are settled, the queue is deleted: then there is nothing in it to lose.
    """

    orders: list[Order]
    strikes: list[Strike]
    delete_queue: bool


_HOLDS_S, _HOLD_WEIGHTS = (0.0, 0.002, 0.01, 0.05), (60, 25, 10, 5)


def draw(seed: int, shape: Shape) -> list[Leg]:
    """The ride of this seed: every fault of its shape once as far as strikes suffice, the others by weight."""
    dice = random.Random(seed)
    chosen = dice.sample(shape.faults, min(shape.strikes, len(shape.faults)))
    weights = [TRAITS[fault].weight for fault in shape.faults]
    chosen += dice.choices(shape.faults, weights, k=shape.strikes - len(chosen))
    deletions = chosen.count(Fault.DELETE_QUEUE)
    orders = [_order(number, dice, shape) for number in range(shape.messages)]
    size = -(-len(orders) // (deletions + 1))
    strikes = sorted(_strike(fault, dice, shape) for fault in chosen if fault is not Fault.DELETE_QUEUE)
    return [
        Leg(
            orders[start : start + size],
            [strike for strike in strikes if start <= strike.due < start + size],
            start + size < len(orders),
        )
        for start in range(0, len(orders), size)
    ]


def cuts(faults: list[Fault], workers: int) -> int:
    """How many runs these faults can have cut off at the most."""
    return sum(workers if (cut := TRAITS[fault].cuts) is None else cut for fault in faults)


def _order(number: int, dice: random.Random, shape: Shape) -> Order:
    bare, fails = dice.random() < shape.bare, dice.random() < shape.failing
    hold_s = dice.choices(_HOLDS_S, _HOLD_WEIGHTS)[0]
    return Order(f"{'bare' if bare else 'named'}-{number:06}", bare, fails, hold_s)


def _strike(fault: Fault, dice: random.Random, shape: Shape) -> Strike:
    due = int(shape.messages * dice.uniform(0.02, 0.97))
    return Strike(due, fault, dice.randrange(shape.workers), dice.randrange(10, 200))
