"""Everything that lives from one opening of the ledger to its closing, wired together, opened and closed.

Runs in the consumer process. A turn goes one way: hear (`turn/hearing.py`), settle (`settlement/`), commit, carry out
(`turn/commit_pipeline.py`). Any LedgerError ends the session: the connection is closed, so that the broker has back
what was not settled, and `loop.py` starts a new one, which recovers from the ledger and the slots.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from supervisor.brokers import open_broker
from supervisor.config.schema import PoolConfig
from supervisor.consumer.answers import Answers
from supervisor.consumer.housekeeping import EVICT_INTERVAL_S, LOOK_INTERVAL_S, Housekeeping
from supervisor.consumer.observe.delay_watch import DelayWatch
from supervisor.consumer.observe.file_watch import StateGuard
from supervisor.consumer.observe.health import PROBE_INTERVAL_S, Health
from supervisor.consumer.observe.measures import Measures
from supervisor.consumer.observe.observer import Observer
from supervisor.consumer.settlement.delivery_limit import danger
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.messages import COPIED
from supervisor.consumer.settlement.missing import hand_over, missing
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.stalls import LOOK_S, Stalls
from supervisor.consumer.tenure import Tenure
from supervisor.consumer.turn.commit_pipeline import CommitPipeline, Effects
from supervisor.consumer.turn.hearing import BrokerHearing, WorkerHearing
from supervisor.consumer.workers.dispatch import Dispatcher
from supervisor.consumer.workers.links import WorkerLinks
from supervisor.consumer.workers.outcomes import Outcomes
from supervisor.ledger.base import Ledger
from supervisor.link.frames import Drained, ExitNotice, Incarnation, Snapshot, StartConsumer, WorkerFrame
from supervisor.system.clock import boottime_s, monotonic_s, wall_s
from supervisor.system.reactor import Callback, Reactor

CLAIM_AGAIN_S = 1.0
"""How often messages that other daemons have in hand are claimed again."""


class Session:
    """One pool's messages in flight, with all that moves them."""

    def __init__(self, start: StartConsumer, ledger: Ledger, listener: socket.socket, reactor: Reactor) -> None:
        """Raises LedgerError, and leaves nothing registered then. `listener`: where workers connect."""
        pool = start.pool
        self._ledger = ledger
        self._reactor = reactor
        self._ended = False
        self.settlement = settlement = Settlement(
            pool, socket.gethostname(), start.ledger.dedupe, start.broker.blocked_timeout_s, ledger.epoch
        )
        measures = Measures(start.ledger.keep_max, ledger.counters())
        self._in_fleet = start.fleet is not None
        limits = "" if start.broker.embedded else danger(pool.queue_arguments)
        health = Health(pool.queue, limits, shared=self._in_fleet)
        self._guard = StateGuard(start, ledger, settlement, health)
        self.links = links = WorkerLinks(listener, reactor)
        self.dispatcher = Dispatcher(pool)
        self.outcomes = Outcomes(
            pool.name, Path(start.pool_dir) / "slots", settlement, self.dispatcher, measures.handler_s, links.retire
        )
        arrivals = Arrivals(pool, start.broker)
        delays = DelayWatch(pool, ledger, settlement, health, arrivals.key_of)
        self.observer = Observer(settlement, health, measures, delays)
        self.broker = open_broker(pool, start.broker, start.state_dir, reactor)
        effects = Effects(settlement, self.broker, links, measures.publishes, self._timer)
        self.pipeline = CommitPipeline(ledger, settlement, self.outcomes, effects, self.observer)
        self.worker_hearing = WorkerHearing(settlement, self.outcomes, self.dispatcher, links)
        self.broker_hearing = BrokerHearing(
            settlement, self.broker, ledger, arrivals, self.observer, self._guard, self._timer
        )
        self.answers = Answers(pool.name, settlement, ledger, arrivals, delays)
        self.stalls = Stalls(settlement, self.outcomes, self.pipeline, self.observer)
        self._tenure = Tenure(ledger, settlement, self.broker, health)
        self._housekeeping = Housekeeping(
            start, ledger, settlement, self.pipeline, self.observer, self.broker, self._timer
        )

    # ---- life -----------------------------------------------------------------------------------------------------

    def open(self, alive: set[Incarnation], consume: bool) -> None:
        """Recover from the ledger and the slots, then connect. Raises LedgerError.

        `alive`: workers whose exit notice is still to come. `consume`: whether to subscribe, or to wait for `resume`.
        """
        # fail-point: consumer.start-ledger-open: the ledger is ours, nothing is recovered
        self.observer.measures.weigh(*self._ledger.size())
        self.settlement.begin_turn(self._ledger.now_s, wall_s(), boottime_s())
        unproven = set()
        for row in self._ledger.open_rows():
            self.settlement.restore_row(row)
            if row.epoch != self._ledger.epoch:
                unproven.add(Incarnation(row.slot, row.generation))
        self.outcomes.hand_in_all()
        for worker in self.settlement.assignments.workers() - alive:
            self.outcomes.lost(worker, proof=worker not in unproven)
        if self._in_fleet:
            for entry in missing(self.settlement.entries.values()):
                self.settlement.give_up_missing(entry, "", hand_over)
        if not consume:
            self.drain()
        self.pipeline.turn()
        # fail-point: consumer.start-recovered: what was left is decided and on record, no broker yet
        self.broker.start()
        self._every(PROBE_INTERVAL_S, self._housekeeping.probe)
        self._every(LOOK_INTERVAL_S, self._housekeeping.look_at_clock)
        self._every(LOOK_INTERVAL_S, self._guard.look)
        self._every(CLAIM_AGAIN_S, self.settlement.claim_again)
        self.stalls.look(monotonic_s())
        self._every(LOOK_S, lambda: self.stalls.look(monotonic_s()))
        self._timer(EVICT_INTERVAL_S, self._housekeeping.evict)
        self.observer.delays.begin(self._timer)

    def close(self, timeout_s: float) -> None:
        """Close the workers' links and the broker's connection, so that it has back what was not settled."""
        # fail-point: consumer.stop-session-open: everything is settled, connection and links are up
        self._ended = True
        self._guard.close()
        self.links.close()
        self.broker.close(timeout_s)
        while not self.broker.closed:
            self._reactor.poll(timeout_s)

    # ---- one turn -------------------------------------------------------------------------------------------------

    def begin_turn(self) -> list[tuple[Incarnation, WorkerFrame]]:
        """Set the settlement's time; the frames that workers have sent since the last turn."""
        self.settlement.begin_turn(self._ledger.now_s, wall_s(), boottime_s())
        # fail-point: consumer.woken: frames of workers are read, none has had an effect
        return self.links.take()

    def hear_exit_notice(self, exit_notice: ExitNotice) -> None:
        """The master declares a worker dead; `pipeline.take_exit_notices` says when that is durable."""
        self.worker_hearing.hear_exit_notice(exit_notice)
        self.pipeline.note_exit_notice(exit_notice.worker)

    def turn(self, frames: list[tuple[Incarnation, WorkerFrame]]) -> None:
        """Hear, decide, commit, carry out. `frames`: of `begin_turn`. Raises LedgerError, BrokerRefused."""
        self.worker_hearing.hear(frames)
        self.broker_hearing.hear()
        self._tenure.look(boottime_s())
        if not self._housekeeping.broker_is_silent() and self.settlement.assignments.waiting:
            self._dispatch()
        self._housekeeping.look_at_refused()
        self.pipeline.turn()

    def _dispatch(self) -> None:
        """Give waiting messages to workers with room."""
        assignments = self.settlement.assignments
        if not self._tenure.is_deaf:
            places = self.dispatcher.places(assignments.load)
            assignments.fill(places, self.settlement.expires, self._ledger.begins_until_s)

    # ---- orders ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Cancel the subscription and call back what no worker has begun."""
        # fail-point: consumer.stop-drain-ordered: a drain is ordered, the subscription is up
        self._tenure.want(False)

    def resume(self) -> None:
        """Take messages again."""
        self._tenure.want(True)

    def reconfigure(self, pool: PoolConfig) -> None:
        """Go on with other settings of the pool; those of the connection are the same."""
        self.settlement.configure(pool)
        self.dispatcher.configure(pool)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is in flight that can still move: no run, and no copy that the broker could confirm now.

        A copy that cannot leave (no connection, an alarm that may last for hours, a refusal) is on record and follows
        later.
        """
        publishing, refused = self.observer.health.publishing, self.settlement.publications.refused
        return not self.pipeline.under_way and not any(
            entry.owner is not None
            or (publishing and entry.phase in COPIED and entry.delivery and entry.token not in refused)
            for entry in self.settlement.entries.values()
        )

    def snapshot(self) -> Snapshot:
        """What `status` shows of us now."""
        return self.observer.snapshot(self.broker.connections_opened)

    def drain_report(self, before: Counter[str]) -> Drained:
        """What a drain did; `before`: the counters at its beginning."""
        since = self.observer.measures.counters - before
        cut_off = [entry.id for entry in self.settlement.entries.values() if entry.owner is not None]
        return Drained(since["done"] + since["failed"], since["returned"], cut_off)

    def _every(self, interval_s: float, duty: Callable[[], object]) -> None:
        """Do a duty again and again until the session has ended."""

        def again() -> None:
            self._every(interval_s, duty)
            duty()

        self._timer(interval_s, again)

    def _timer(self, delay_s: float, callback: Callback) -> None:
        """Call later, unless the session has ended by then."""
        self._reactor.call_later(delay_s, lambda: None if self._ended else callback())
