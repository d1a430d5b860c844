"""The duties of a session that follow the clock: ask for the queue's depth, forget old rows, notice
silence and a clock that was set.

Runs in the consumer process, between its turns. Nothing here may block or decide about a message: the ledger is
written to only while the disk keeps up, and a silent broker only ends dispatching.
"""

from __future__ import annotations

import logging

from supervisor.brokers.base import Broker
from supervisor.consumer.observe.observer import Observer
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.turn.commit_pipeline import CommitPipeline
from supervisor.ledger.base import Ledger
from supervisor.link.frames import StartConsumer
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.quantities import show_seconds
from supervisor.system.clock import ClockJumps, boottime_s, rfc3339, wall_s
from supervisor.system.reactor import CallLater

EVICT_INTERVAL_S, EVICT_AGAIN_S = 1.0, 0.02
"""Looking for rows to forget; and the pause between two batches, which must outrun what a busy pool adds."""

LOOK_INTERVAL_S = 1.0
"""Looking at the machine's clock, and at the pool's files."""
JUMP_SHOWN_S = 3600.0
"""How long a clock that was set stays a note."""
LOOK_AT_REFUSED_S = 0.05
"""The wait before a look at the refused copies: thousands may be refused in a row, and a look costs as many."""


class Housekeeping:
    """The duties of one session by the clock. `call_later` calls nothing once the session has ended."""

    def __init__(
        self,
        start: StartConsumer,
        ledger: Ledger,
        settlement: Settlement,
        pipeline: CommitPipeline,
        observer: Observer,
        broker: Broker,
        call_later: CallLater,
    ) -> None:
        self._start = start
        self._ledger = ledger
        self._settlement = settlement
        self._pipeline = pipeline
        self._observer = observer
        self._health = observer.health
        self._broker = broker
        self._call_later = call_later
        self._clock_jumps = ClockJumps(wall_s(), boottime_s())
        self._jump_shown_until_s = 0.0
        self._refused_changes = 0  # of the refused copies, when they were looked at last
        self._refused_due = False
        self._was_silent = False

    def broker_is_silent(self) -> bool:
        """Whether the broker is silent for longer than a heartbeat: it may have given up on us, and send again what is
        started now. At the beginning of a silence the workers are asked for what they have not begun."""
        silent = self._broker.silent_s > self._start.broker.heartbeat_s
        if silent and not self._was_silent:
            self._settlement.decisions.recall()
        self._was_silent = silent
        return silent

    def look_at_refused(self) -> None:
        """Look at the refused copies soon, if they have changed: they are a symptom, and their deliveries take no room
        from others. Called every turn."""
        if self._settlement.publications.refused.changes != self._refused_changes and not self._refused_due:
            self._refused_due = True
            self._call_later(LOOK_AT_REFUSED_S, self._tell_refused)

    def _tell_refused(self) -> None:
        publications = self._settlement.publications
        self._refused_changes, self._refused_due = publications.refused.changes, False
        self._broker.set_aside(publications.set_aside())
        if publications.refused:
            self._health.notice(Event.COPIES_REFUSED, publications.refused.told(), degrades=True)
        else:
            self._health.heal(Event.COPIES_REFUSED)

    def probe(self) -> None:
        """Weigh the ledger; ask the broker for the queue's depth."""
        self._observer.measures.weigh(*self._ledger.size())
        if self._health.connected:
            if self._health.calm:
                self._broker.narrow(None)
            self._broker.probe(self._observer.delays.queues())

    def look_at_clock(self) -> None:
        """Notice a clock that was set."""
        now_s, passed_s = wall_s(), boottime_s()
        by_s = self._clock_jumps.look(now_s, passed_s)
        if by_s:
            by, where = show_seconds(round(abs(by_s))), "forward" if by_s > 0 else "back"
            text = (
                f"the machine's clock was set {where} by {by}, to {rfc3339(now_s)}: times in log and records jump; "
                "no message is forgotten, delayed or repeated"
            )
            self._health.heal(Event.CLOCK_JUMPED)  # each is logged
            self._health.notice(Event.CLOCK_JUMPED, text)
            self._jump_shown_until_s = passed_s + JUMP_SHOWN_S
        elif passed_s > self._jump_shown_until_s:
            self._health.heal(Event.CLOCK_JUMPED)

    def evict(self) -> None:
        """Forget a batch of what the ledger need not know any more, again and again."""
        if self._pipeline.held_up:  # what is forgotten is written, too: the loop would hang as the disk does
            self._call_later(EVICT_INTERVAL_S, self.evict)
            return
        ledger = self._start.ledger
        aged, early = self._ledger.evict(self._ledger.now_s - ledger.keep_s, ledger.keep_max)
        self._call_later(EVICT_AGAIN_S if aged or early else EVICT_INTERVAL_S, self.evict)
        self._observer.measures.evicted(early)
        if early:
            text = f"the ledger is full ({ledger.keep_max} rows): {early} forgotten before their time; raise keep_max"
            log(Event.LEDGER_EVICTED, text, level=logging.WARNING, rows=early)
