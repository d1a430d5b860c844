"""What a ride of a fleet injects, and when: drawn from the seed alone, so that a ride can be repeated. Pure.

As in `chaos/plan.py`: a strike is due after so many effects, and what lasts is over after so many more, or by time.
"""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

from tests.support.chaos.plan import Order

LEASE_S = 30.0
"""The shortest that a configuration may have."""


class Fault(StrEnum):
    """Everything that can be done from outside to a host, its networks, the broker and the store."""

    KILL_WORKER = "kill -9 worker"
    KILL_CONSUMER = "kill -9 consumer"
    KILL_FORKSERVER = "kill -9 forkserver"
    KILL_MASTER = "kill -9 master"
    KILL_HOST = "kill -9 all of a host, which comes back"
    LOSE_HOST = "kill -9 all of a host, which stays away for longer than its lease"
    STOP_WORKER = "SIGSTOP worker"
    STOP_CONSUMER = "SIGSTOP consumer"
    STOP_MASTER = "SIGSTOP master"
    STOP_HOST = "SIGSTOP all of a host for a moment"
    STOP_HOST_LONG = "SIGSTOP all of a host for longer than its lease"
    STOP_CONSUMER_LONG = "SIGSTOP consumer for longer than its lease"
    CLOSE_CONNECTIONS = "broker closes all connections"
    BROKER_RESET = "broker: reset"
    BROKER_SILENT = "broker: silent, no FIN"
    BROKER_ONE_WAY = "broker: answers are lost"
    BROKER_SLOW = "broker: slow network"
    STORE_RESET = "store: reset"
    STORE_SILENT = "store: silent, no FIN"
    STORE_ONE_WAY = "store: answers are lost"
    STORE_SLOW = "store: slow network"
    STORE_REFUSES = "store: refuses a host for some seconds"
    STORE_REFUSES_LONG = "store: refuses a host for longer than its lease"
    CUT_HOST = "cable of a host cut for some seconds"
    CUT_HOST_LONG = "cable of a host cut for longer than its lease"
    KILL_BROKER = "kill -9 broker, restart"
    KILL_BACKENDS = "store: all backends end"
    KILL_STORE = "kill -9 store, restart"
    STOP_STORE = "SIGSTOP store for some seconds"
    STOP_STORE_LONG = "SIGSTOP store for half a lease"
    FULL_STORE = "store: takes no more connections"


class Trait(msgspec.Struct, frozen=True):
    """How a fault behaves: how often it is drawn, and how long it lasts: `span` effects or `timeout_s`, whichever ends
    first; a `span` of 0: by time alone."""

    weight: int
    timeout_s: float = 0.0
    by_time: bool = False


_AWAY_S = 2.0 * LEASE_S + 15.0

TRAITS: dict[Fault, Trait] = {
    Fault.KILL_WORKER: Trait(60),
    Fault.KILL_CONSUMER: Trait(14),
    Fault.KILL_FORKSERVER: Trait(5),
    Fault.KILL_MASTER: Trait(5),
    Fault.KILL_HOST: Trait(8),
    Fault.LOSE_HOST: Trait(1, _AWAY_S, by_time=True),
    Fault.STOP_WORKER: Trait(8, 1.0),
    Fault.STOP_CONSUMER: Trait(8, 1.0),
    Fault.STOP_MASTER: Trait(4, 1.0),
    Fault.STOP_HOST: Trait(6, 2.0, by_time=True),
    Fault.STOP_HOST_LONG: Trait(1, _AWAY_S, by_time=True),
    Fault.STOP_CONSUMER_LONG: Trait(1, _AWAY_S, by_time=True),
    Fault.CLOSE_CONNECTIONS: Trait(6),
    Fault.BROKER_RESET: Trait(12),
    Fault.BROKER_SILENT: Trait(4),
    Fault.BROKER_ONE_WAY: Trait(4),
    Fault.BROKER_SLOW: Trait(3, 1.0),
    Fault.STORE_RESET: Trait(14),
    Fault.STORE_SILENT: Trait(5),
    Fault.STORE_ONE_WAY: Trait(5),
    Fault.STORE_SLOW: Trait(4, 1.0),
    Fault.STORE_REFUSES: Trait(4, 3.0, by_time=True),
    Fault.STORE_REFUSES_LONG: Trait(1, _AWAY_S, by_time=True),
    Fault.CUT_HOST: Trait(4, 4.0, by_time=True),
    Fault.CUT_HOST_LONG: Trait(1, _AWAY_S, by_time=True),
    Fault.KILL_BROKER: Trait(1),
    Fault.KILL_BACKENDS: Trait(5),
    Fault.KILL_STORE: Trait(3),
    Fault.STOP_STORE: Trait(3, 3.0, by_time=True),
    Fault.STOP_STORE_LONG: Trait(1, 0.6 * LEASE_S, by_time=True),
    Fault.FULL_STORE: Trait(2, 2.0, by_time=True),
}

QUICK = tuple(fault for fault, trait in TRAITS.items() if trait.timeout_s < 0.5 * LEASE_S)
"""The others take most of a minute or more."""


class Shape(msgspec.Struct, frozen=True):
    """What kind of ride. `bare`, `failing`: shares of the messages; `slow`: of those whose handlers take 0.2 to 2 s."""

    messages: int
    strikes: int
    hosts: int = 2
    queue_type: str = "quorum"
    on_crash: str = "retry"
    faults: tuple[Fault, ...] = tuple(Fault)
    workers: int = 4
    bare: float = 0.05
    failing: float = 0.02
    slow: float = 0.01
    delay_s: float = 0.1


class Strike(msgspec.Struct, frozen=True, order=True):
    """A fault, due after `due` effects, over after `span` more; `host` and `slot`: whom it is for."""

    due: int
    fault: Fault
    host: int
    slot: int
    span: int


class Plan(msgspec.Struct, frozen=True):
    """Messages and strikes."""

    orders: list[Order]
    strikes: list[Strike]


_HOLDS_S, _HOLD_WEIGHTS = (0.0, 0.002, 0.01, 0.05), (60, 25, 10, 5)


def draw(seed: int, shape: Shape) -> Plan:
    """The ride of this seed: every fault of its shape once as far as strikes suffice, the others by weight."""
    dice = random.Random(seed)
    chosen = dice.sample(shape.faults, min(shape.strikes, len(shape.faults)))
    weights = [TRAITS[fault].weight for fault in shape.faults]
    chosen += dice.choices(shape.faults, weights, k=shape.strikes - len(chosen))
    orders = [_order(number, dice, shape) for number in range(shape.messages)]
    return Plan(orders, sorted(_strike(fault, dice, shape) for fault in chosen))


def _order(number: int, dice: random.Random, shape: Shape) -> Order:
    bare, fails = dice.random() < shape.bare, dice.random() < shape.failing
    hold_s = dice.uniform(0.2, 2.0) if dice.random() < shape.slow else dice.choices(_HOLDS_S, _HOLD_WEIGHTS)[0]
    return Order(f"{'bare' if bare else 'named'}-{number:06}", bare, fails, hold_s)


def _strike(fault: Fault, dice: random.Random, shape: Shape) -> Strike:
    due = int(shape.messages * dice.uniform(0.02, 0.95))
    return Strike(due, fault, dice.randrange(shape.hosts), dice.randrange(shape.workers), dice.randrange(10, 200))
