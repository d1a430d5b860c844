"""Everything that lives from one opening of the ledger to its closing: settlement, workers' links, broker.

Runs in the consumer process. `hear` feeds the settlement, `settle` makes its decisions durable and then carries them
out. Any LedgerError ends the session: the connection is closed, so that the broker has back what was not settled,
and `loop.py` starts a new one, which knows what it must from the ledger and the slots.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.brokers import base, open_broker
from supervisor.consumer.answers import Answers
from supervisor.consumer.housekeeping import BrokerSilence, Housekeeping
from supervisor.consumer.observe.clock_jumps import ahead_s
from supervisor.consumer.observe.dead_letter_news import DeadLetterNews
from supervisor.consumer.observe.delay_watch import DelayWatch
from supervisor.consumer.observe.health import Health
from supervisor.consumer.observe.measures import Measures
from supervisor.consumer.settlement.delivery_limit import danger
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.messages import COPIED
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.state.guard import StateGuard
from supervisor.consumer.turn.commit_pipeline import Commits
from supervisor.consumer.turn.effects import Effects
from supervisor.consumer.workers.dispatch import Dispatcher
from supervisor.consumer.workers.links import WorkerLinks
from supervisor.consumer.workers.outcomes import Outcomes
from supervisor.consumer.workers.stalls import Stalls
from supervisor.errors import BrokerRefused, LedgerError
from supervisor.ledger.base import Ledger, Row
from supervisor.link.frames import (
    Bye,
    Drained,
    ExitNotice,
    Hello,
    Incarnation,
    Outcome,
    Publish,
    Returned,
    Snapshot,
    StartConsumer,
    Welcome,
    WorkerFrame,
)
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.system.clock import wall_s
from supervisor.system.reactor import Reactor

RESUBSCRIBE_S = 1.0
LOOK_AT_REFUSED_S = 0.05  # thousands of copies may be refused in a row: a look costs as much as there are


class Session:
    """One pool's messages in flight, with all that moves them."""

    def __init__(self, start: StartConsumer, ledger: Ledger, links: WorkerLinks, reactor: Reactor) -> None:
        pool = start.pool
        self.settlement = Settlement(pool, socket.gethostname(), start.ledger.dedupe, start.broker.blocked_timeout_s)
        self.dispatcher = Dispatcher(pool)
        self.measures = Measures(start.ledger.keep_max)
        slots_dir = Path(start.pool_dir) / "slots"
        self.outcomes = Outcomes(
            pool.name, slots_dir, self.settlement, self.dispatcher, self.measures.handler_s, links.retire
        )
        self.health = Health(pool.queue, "" if start.broker.embedded else danger(pool.queue_arguments))
        self.letters = DeadLetterNews()
        self.broker = open_broker(pool, start.broker, start.state_dir, reactor)
        self.subscribed = False
        self.commits = Commits(ledger, self.measures)
        self._exit_notices: dict[Incarnation, int] = {}  # and the turn that makes each durable
        self._start = start
        self._ledger = ledger
        self._links = links
        self._reactor = reactor
        self._arrivals = Arrivals(pool, start.broker)
        self.delays = DelayWatch(pool, ledger, self.settlement, self.health, self._arrivals.key_of)
        self.answers = Answers(pool.name, self.settlement, ledger, self._arrivals, self.delays)
        self._ended = False
        self._refused_changes = 0  # of the refused copies, when they were looked at last
        self._refused_due = False
        self._silence = BrokerSilence(self.broker, start.broker.heartbeat_s, self.settlement.recall)
        self._guard = StateGuard(start, ledger, self.settlement, self.health)
        self._housekeeping = Housekeeping(
            start, ledger, self.commits, self.measures, self.health, self.broker, self.delays.queues, self._timer
        )
        self._effects = Effects(self.settlement, self.broker, links, self.measures.publishes, self._timer)
        self.stalls = Stalls(self.settlement, self.outcomes, self.commits, self.health)
        self._hear_worker: dict[type[WorkerFrame], Callable[[Incarnation, Any], None]] = {
            Hello: self._on_hello,
            Outcome: self.outcomes.heard,
            Publish: lambda worker, frame: self.settlement.publishing(worker, frame.run, frame.publications),
            Returned: lambda worker, frame: self.settlement.returned(worker, frame.runs),
            Bye: lambda worker, frame: self.dispatcher.leave(worker),
        }
        self._hear_broker: dict[type[Any], Callable[[Any], None]] = {
            base.Connected: self._on_connected,
            base.Subscribed: self._on_subscribed,
            base.Disconnected: self._on_disconnected,
            base.Cancelled: self._on_cancelled,
            base.Confirmed: self._on_confirmed,
            base.Unpublished: self._on_unpublished,
            base.Blocked: lambda event: self.health.blocked(event.reason),
            base.Unblocked: lambda event: self.health.blocked(""),
            base.Declared: lambda event: self.health.made(event.text),
            base.Unsafe: lambda event: self.health.queues(event.remarks),
            base.Fatal: self._on_fatal,
            base.Depth: self._on_depth,
            base.Held: self.delays.held,
            base.Unresponsive: lambda event: self.health.unresponsive(event.waited_s),
        }

    # ---- life -----------------------------------------------------------------------------------------------------

    def open(self, alive: set[Incarnation], consume: bool) -> None:
        """Recover from the ledger and the slots, then connect.

        `alive`: workers whose verdict is still to come. `consume`: whether to subscribe, or to wait for `resume`.
        """
        # fail-point: consumer.start-ledger-open: the ledger is ours, nothing is recovered
        self.measures.before = dict(self.commits.counters)
        self.measures.weigh(*self._ledger.size())
        self._tell_time()
        for row in self._ledger.open_rows():
            self.settlement.restore_row(row)
        self.outcomes.hand_in_all()
        for worker in self.settlement.assignments.workers() - alive:
            self.outcomes.lost(worker, proof=not self._ledger.rebooted)
        if not consume:
            self.drain()
        self.settle()
        # fail-point: consumer.start-recovered: what was left is decided and on record, no broker yet
        self.broker.start()
        self._housekeeping.begin()
        self.delays.begin(self._timer)
        self.stalls.begin(self._timer)
        self._guard.keep_looking(self._timer)

    def close(self, timeout_s: float) -> None:
        """Close the workers' links and the broker's connection, so that it has back what was not settled."""
        # fail-point: consumer.stop-session-open: everything is settled, connection and links are up
        self._ended = True
        self._guard.close()
        self._links.close()
        self.broker.close(timeout_s)
        while not self.broker.closed:
            self._reactor.poll(timeout_s)

    # ---- one turn -------------------------------------------------------------------------------------------------

    def begin_turn(self) -> list[tuple[Incarnation, WorkerFrame]]:
        """Set the settlement's time; the frames that workers have sent since the last turn."""
        self._tell_time()
        # fail-point: consumer.woken: frames of workers are read, none has had an effect
        return self._links.take()

    def hear_workers(self, heard: list[tuple[Incarnation, WorkerFrame]]) -> None:
        """Take in what workers said."""
        for worker, frame in heard:
            try:
                self._hear_worker[type(frame)](worker, frame)
            except LedgerError:
                raise
            except Exception as error:  # noqa: BLE001  (what a worker says must not end the others' consumer)
                self._links.refuse(worker, f"{type(frame).__name__} cannot be handled: {error!r}")

    def hear_exit_notice(self, exit_notice: ExitNotice) -> None:
        """The master declares a worker dead."""
        self.dispatcher.leave(exit_notice.worker)
        self._links.drop(exit_notice.worker)
        # fail-point: consumer.verdict-heard: a death is known, not decided upon
        self.outcomes.died(exit_notice)
        self._exit_notices.setdefault(
            exit_notice.worker, self.commits.begun + 1
        )  # the master repeats it: the first one counts

    def durable_exit_notices(self) -> list[Incarnation]:
        """On whom there are verdicts that have become durable since the last call."""
        taken = [worker for worker, turn in self._exit_notices.items() if turn <= self.commits.done]
        for worker in taken:
            del self._exit_notices[worker]
        return taken

    def hear_broker(self) -> None:
        """Take in what the broker said; all deliveries of the turn are looked up in the ledger at once."""
        events = list(self.broker.events)
        self.broker.events.clear()
        arrivals = [self._arrivals.identify(event) for event in events if type(event) is base.Delivery]
        known: dict[bytes, list[Row]] = {}
        if arrivals:
            known = self._ledger.look_up([arrival.key for arrival in arrivals])
            self.health.fed()
            self._arrivals.tell_worn(self.health.worn)
        # fail-point: consumer.delivered: deliveries are looked up, nothing is decided
        following = iter(arrivals)
        for event in events:
            if type(event) is base.Delivery:
                arrival = next(following)
                rows = known.get(arrival.key, ())
                self.settlement.delivered(self._arrivals.as_known(arrival, rows) if rows else arrival, rows)
            else:
                self._hear_broker[type(event)](event)

    def _tell_time(self) -> None:
        self.settlement.now_s = now_s = self._ledger.now_s
        self.settlement.ahead_s = ahead_s(wall_s(), now_s, self.settlement.ahead_s)

    def dispatch(self) -> None:
        """Give waiting messages to workers with room, the oldest first."""
        if self._silence.lasts() or not self.settlement.waiting:
            return
        waiting = list(self.settlement.waiting.values())
        for entry, worker in zip(waiting, self.dispatcher.places(self.settlement.assignments.load), strict=False):
            self.settlement.assign(entry, worker)

    def settle(self) -> None:
        """Carry out the turn before, once it is durable; then say what has been decided since and begin its commit.

        Not before all that was read has been heard: a hello, or the end of a connection, withdraws effects (I3).
        """
        self._look_at_refused()
        self._carry_out()
        if not self.commits.under_way:
            self.commits.begin(self.settlement.take_turn(), self.outcomes.take_tails())
            self._carry_out()

    def _look_at_refused(self) -> None:
        """Copies that are refused are a symptom, and their deliveries take no room from others: soon after a change."""
        refused = self.settlement.publications.refused
        if refused.changes != self._refused_changes and not self._refused_due:
            self._refused_due = True
            self._timer(LOOK_AT_REFUSED_S, self._tell_refused)

    def _tell_refused(self) -> None:
        refused = self.settlement.publications.refused
        self._refused_changes, self._refused_due = refused.changes, False
        self.broker.set_aside(self.settlement.publications.set_aside())
        if refused:
            self.health.notice(Event.COPIES_REFUSED, refused.told(), degrades=True)
        else:
            self.health.heal(Event.COPIES_REFUSED)

    def _carry_out(self) -> None:
        """Carry out the turn under way if it is durable by now."""
        commit = self.commits.take()
        if commit is None:
            return
        # fail-point: consumer.committed: durable; tails, broker and workers are as before
        self.outcomes.advance_tails(commit.tails)
        self.delays.turned(commit.turn.rows)
        # fail-point: consumer.tails-advanced: durable, the rings are free, no effect has left
        if commit.turn.said:
            self.letters.gather(commit.turn.said)
        self._effects.carry_out(self.settlement.take_effects())
        # fail-point: consumer.effects-queued: effects are handed to broker and links, unsent
        self.broker.flush()
        # fail-point: consumer.broker-flushed: the broker has the turn's effects, the workers have not
        self._links.flush()
        # fail-point: consumer.links-flushed: all effects of the turn are out

    def drain(self) -> None:
        """Cancel the subscription and call back what nobody has begun."""
        # fail-point: consumer.stop-drain-ordered: a drain is ordered, the subscription is up
        self.settlement.drain()
        self.broker.cancel()

    def resume(self) -> None:
        """Take messages again."""
        self.settlement.accepting = True
        self.broker.subscribe()

    def reconfigure(self, start: StartConsumer) -> None:
        """Go on with other settings of the pool; those of the connection are the same."""
        self._start = start
        self.settlement.pool = start.pool
        self.dispatcher.configure(start.pool)
        self._housekeeping.reconfigure(start)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is in flight that can still move: no run, and no copy that the broker could confirm now.

        A copy that cannot leave (no connection, an alarm that may last for hours, a refusal) is on record and follows
        later.
        """
        publishing, refused = self.health.publishing, self.settlement.publications.refused
        return not self.commits.under_way and not any(
            entry.owner is not None
            or (publishing and entry.phase in COPIED and entry.delivery and entry.token not in refused)
            for entry in self.settlement.entries.values()
        )

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        return self.health.connected

    def snapshot(self) -> Snapshot:
        """What `status` shows of us now."""
        facts = self.health.facts(self.broker.connections_opened)
        queue, symptoms = self.health.queue_facts(), self.health.symptoms
        counters, in_flight = dict(self.commits.counters), len(self.settlement.entries)
        measures = self.measures.facts(counters, (symptom.name for symptom in symptoms))
        return Snapshot(0.0, facts, queue, counters, in_flight, symptoms, measures)

    def drain_report(self, before: dict[str, int]) -> Drained:
        """What a drain did; `before`: the counters at its beginning."""

        def since(name: str) -> int:
            return self.commits.counters.get(name, 0) - before.get(name, 0)

        cut_off = [entry.id for entry in self.settlement.entries.values() if entry.owner is not None]
        return Drained(since("done") + since("failed"), since("returned"), cut_off)

    # ---- workers --------------------------------------------------------------------------------------------------

    def _on_hello(self, worker: Incarnation, hello: Hello) -> None:
        if not self.outcomes.lives(worker):  # or it would be given messages after the only verdict on it
            self._links.drop(worker)
            return
        # fail-point: consumer.hello-heard: a worker's hello is read, not answered
        self.outcomes.hand_in(worker.slot)
        self.settlement.greeted(worker, hello.held)
        self.dispatcher.join(worker)
        self._links.send(worker, Welcome())

    # ---- the broker -----------------------------------------------------------------------------------------------

    def _on_connected(self, event: base.Connected) -> None:
        self.health.connection("connected", event.host)
        self.measures.connections.connected()
        self._guard.look()  # the embedded queue has its file by now
        log(Event.CONSUMER_CONNECTED, f"connected to {event.host}", host=event.host)

    def _on_subscribed(self, event: base.Subscribed) -> None:
        self.subscribed = True
        self.health.connection("connected")
        self.broker.probe(self.delays.queues())

    def _on_disconnected(self, event: base.Disconnected) -> None:
        self.subscribed = False
        self.broker.narrow(None if self.health.calm else self._start.pool.workers)
        self.settlement.content_matches.queue_is_ours = self.health.queue_is_ours
        self.settlement.disconnected()
        self.delays.disconnected()
        self.measures.connections.disconnected(self.health.connected)
        self.measures.publishes.disconnected()
        why = f"{event.reason}; trying again in {event.retry_in_s:.1f} s"
        self.health.connection("connecting", event.host, why)
        log(
            Event.CONSUMER_DISCONNECTED,
            f"no connection to {event.host}: {why}",
            level=logging.WARNING,
            host=event.host,
            reason=event.reason,
            retry_in_s=round(event.retry_in_s, 3),
        )

    def _on_confirmed(self, event: base.Confirmed) -> None:
        self.measures.publishes.confirmed()
        self.settlement.confirmed(event.token)

    def _on_unpublished(self, event: base.Unpublished) -> None:
        self.measures.publishes.unpublished(event.lost)
        self.settlement.unpublished(event.token, event.reason, event.lost, event.for_good)

    def _on_cancelled(self, event: base.Cancelled) -> None:
        self.subscribed = False
        if event.reason and self.settlement.accepting:
            text = f"the broker ended the subscription ({event.reason}): subscribing again"
            log(Event.CONSUMER_DISCONNECTED, text, level=logging.WARNING, reason=event.reason)
            self._timer(RESUBSCRIBE_S, self._subscribe_again)

    def _subscribe_again(self) -> None:
        if self.settlement.accepting and not self.subscribed:
            self.broker.subscribe()

    def _on_fatal(self, event: base.Fatal) -> None:
        self.health.connection("refused", why=event.reason)
        raise BrokerRefused(event.reason)

    def _on_depth(self, event: base.Depth) -> None:
        if len(self.settlement.entries) >= self._start.pool.prefetch:
            self.health.fed()  # no room for more: nothing to be hungry for
        self.health.depth(event, self.subscribed, self.commits.counters.get("delivered", 0), self._start.pool.prefetch)
        self.settlement.content_matches.queue_is_ours = self.health.queue_is_ours
        empty = self.subscribed and not event.ready and self.health.queue_is_ours
        if empty:
            self.settlement.queue_is_empty()
        self.delays.looked(empty, shared=event.consumers - event.former > 1)

    def _timer(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call later, unless the session has ended by then."""
        self._reactor.call_later(delay_s, lambda: None if self._ended else callback())
