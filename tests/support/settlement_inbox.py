"""The inbox of a modelled world with `on_crash = "inbox"`: a set of committed effects, in a database that never fails.

A handler uses it in one step, its insert, effect and commit together: what lies between them leaves no trace if it
fails. What it publishes is in the row, so every attempt publishes what the first one stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.brokers import copy_headers
from supervisor.brokers.base import Outgoing
from supervisor.consumer.settlement.messages import Earlier, Failure
from supervisor.link.frames import Run, RunId
from supervisor.messages.message import Properties, Publication
from supervisor.scoreboard.words import OutcomeKind
from tests.support.settlement_parts import AUDIT_QUEUE, DATABASE, DEATH, Broken, Laws, SlotModel, key_of, shallow

if TYPE_CHECKING:  # the world calls these
    from tests.support.settlement_world import World

Place = tuple[bytes, int]
"""A message and its round: the key of a row in the inbox."""

NO_ANSWER, COMMITTED = "not known whether its effect has happened", "its effect is committed"


class InboxModel:
    """Its rows, and what checks need to know. It is changed by replacing its sets, so a shallow copy is another one."""

    def __init__(self, laws: Laws) -> None:
        self.rows: frozenset[Place] = frozenset()
        self.used: frozenset[RunId] = frozenset()  # runs that have reached their inbox
        self.asking: frozenset[RunId] = frozenset()
        self.told: frozenset[RunId] = frozenset()  # that were given the database
        self.unanswered: frozenset[Place] = frozenset()  # a run that asked has died or failed
        self.excused: frozenset[Place] = frozenset()  # a dead letter says that its effect may have happened
        if laws.committed:
            places = [(key_of(f"id-{i}", body), 1) for i, body in enumerate(laws.bodies)]
            self.rows = frozenset(places)

    def clone(self) -> InboxModel:
        """Another one, in the same state."""
        return shallow(self)

    @property
    def state(self) -> tuple[object, ...]:
        """All that matters about it."""
        return tuple(vars(self).values())


def former(laws: Laws) -> tuple[tuple[str, object], ...]:
    """The headers of a message whose first attempts, `laws.deaths` of them, have all ended with their worker."""
    if not laws.deaths:
        return ()
    given_up = DEATH if laws.deaths > laws.max_attempts else None
    earlier = Earlier(laws.deaths, DATABASE, given_up, laws.deaths)
    run = {copy_headers.QUEUE: "q", copy_headers.ROUND: 1, copy_headers.ATTEMPT: laws.deaths + 1}
    return (*run.items(), (copy_headers.EARLIER, msgspec.msgpack.encode(msgspec.to_builtins(earlier))))


def publication(run: RunId) -> Publication:
    """What the row of this run's message and round holds."""
    return Publication("", AUDIT_QUEUE, Properties(), repr((run.key, run.round)).encode())


def sent(world: World, order: Run) -> None:
    """A worker is sent this run."""
    inbox, run = world.inbox, order.run
    asks = run.attempt == world.laws.max_attempts + 2
    if bool(order.given_up) is not asks:
        raise Broken(f"{run} {'only asks' if order.given_up else 'does not only ask'} its inbox")
    if run.attempt > world.laws.max_attempts + 2:
        raise Broken(f"{run} follows the run that asked")
    before = [other for other in inbox.used if (other.key, other.round) == (run.key, run.round) and other != run]
    if before and not order.database and not world.unproven:
        raise Broken(f"{run} is not told the database of {before[0]}")
    inbox.asking |= {run} if asks else set()


def use(world: World, number: int) -> bool:
    """The handler in this slot uses its inbox: it inserts, has its effect and commits, or finds the row."""
    inbox, slot = world.inbox, world.slots[number]
    assert slot.running is not None
    run, place = slot.running, (slot.running.key, slot.running.round)
    inbox.used |= {run}
    if place in inbox.rows:
        slot.used = True
    elif run in inbox.asking:
        world.mark(slot, OutcomeKind.REJECT)
    else:
        again = [row for row in inbox.rows if row[0] == run.key and row not in inbox.excused]
        if again:
            raise Broken(f"{run} has a second effect: the first was in round {again[0][1]}")
        inbox.rows |= {place}
        slot.used = True
    return False


def ended(world: World, slot: SlotModel, kind: OutcomeKind) -> None:
    """The present run of this slot is over, or its worker is."""
    run = slot.running
    slot.used = False
    if run in world.inbox.asking and kind not in (OutcomeKind.DONE, OutcomeKind.REJECT):
        world.inbox.unanswered |= {(run.key, run.round)}


def failure_with(world: World, run: RunId | None, failure: Failure) -> Failure:
    """The failure of a run, with the database that its slot names."""
    return msgspec.structs.replace(failure, database=DATABASE) if run in world.inbox.used else failure


def check_letter(world: World, outgoing: Outgoing) -> None:
    """A letter of a death is one whose effect has not happened, or it says that this is not known."""
    headers = outgoing.properties.headers or {}
    cause, reason = headers["x-preforkd-cause"], headers["x-preforkd-reason"]
    place = (key_of(str(outgoing.properties.message_id), outgoing.body), headers[copy_headers.ROUND] - 1)
    doubtful, done = NO_ANSWER in reason, COMMITTED in reason
    unproven = {(run.key, run.round) for run in world.unproven}
    if doubtful and place not in world.inbox.unanswered | unproven:
        raise Broken(f"a letter says that its inbox has not answered, and it has: {reason}")
    if done and place not in world.inbox.rows:
        raise Broken(f"a letter says that its effect is committed, and it is not: {reason}")
    tells_of_a_death_alone = cause in ("killed", "lost") and not doubtful and not done
    if tells_of_a_death_alone and place in world.inbox.rows:
        raise Broken(f"a dead letter tells of a death only, and its effect is committed: {reason}")
    if not tells_of_a_death_alone:
        world.inbox.excused |= {place}


def check_rest(world: World) -> None:
    """What the row of each effect holds was published."""
    if world.laws.publishes:
        for place in world.inbox.rows - world.inbox.excused:
            if repr(place).encode() not in world.audited:
                raise Broken(f"the effect of {place} is without its publications")
