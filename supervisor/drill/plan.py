"""The plan of a drill: its faults and their times, drawn from the seed alone, so that a drill can be repeated. Pure.

A fault in a message happens in its first attempt, before or after its effect. A fault from outside is due after a
number of effects. Around the death of the master no message carries a fault: no master would wait for that worker, and
its cause on record would be `lost`.
"""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

from supervisor.errors import PreforkdError

FEWEST_MESSAGES = 200
EACH = 3
"""The number of faults of each kind; forkserver and master are killed only once."""


class InnerFault(StrEnum):
    """A fault that the handler commits in its own worker."""

    SEGFAULT = "segfault"
    ABORT = "abort"
    EXIT_ZERO = "exit_zero"
    EXIT_THREE = "exit_three"
    HANG = "hang"
    EXCEPTION = "exception"
    MEMORY = "memory"


class OuterFault(StrEnum):
    """A fault from outside, of a process or the connection."""

    KILL_WORKER = "kill_worker"
    KILL_CONSUMER = "kill_consumer"
    KILL_FORKSERVER = "kill_forkserver"
    KILL_MASTER = "kill_master"
    CUT_CONNECTION = "cut_connection"


class DrillMessage(msgspec.Struct, frozen=True):
    """A message's body. `fault` None: only the effect. `after_effect`: the fault follows the effect."""

    id: str
    fault: InnerFault | None = None
    after_effect: bool = False


class Strike(msgspec.Struct, frozen=True, order=True):
    """A fault from outside, due after `due` effects."""

    due: int
    fault: OuterFault


class DrillPlan(msgspec.Struct, frozen=True):
    """The messages and the faults of one drill."""

    orders: list[DrillMessage]
    strikes: list[Strike]


def draw(messages: int, seed: int) -> DrillPlan:
    """The plan of this `seed` for so many `messages`. Raises PreforkdError if they are too few for all faults."""
    if messages < FEWEST_MESSAGES:
        raise PreforkdError(f"--messages {messages}: a drill needs at least {FEWEST_MESSAGES} to place its faults")
    dice = random.Random(seed)
    return DrillPlan(_orders(messages, dice), _strikes(messages, dice))


def _orders(messages: int, dice: random.Random) -> list[DrillMessage]:
    calm = range(int(messages * 0.45), int(messages * 0.75))  # the master dies at half time
    places = [number for number in range(int(messages * 0.9)) if number not in calm]
    faults = [fault for fault in InnerFault for _ in range(EACH)]
    chosen = dict(zip(dice.sample(places, len(faults)), faults, strict=True))
    return [
        DrillMessage(f"drill-{number:06}", chosen.get(number), number in chosen and dice.random() < 0.5)
        for number in range(messages)
    ]


def _strikes(messages: int, dice: random.Random) -> list[Strike]:
    often = [OuterFault.KILL_WORKER, OuterFault.KILL_CONSUMER, OuterFault.CUT_CONNECTION] * EACH
    strikes = [Strike(int(messages * dice.uniform(0.05, 0.85)), fault) for fault in often]
    strikes.append(Strike(int(messages * dice.uniform(0.1, 0.4)), OuterFault.KILL_FORKSERVER))
    strikes.append(Strike(messages // 2, OuterFault.KILL_MASTER))
    return sorted(strikes)
