"""The first half of a turn: what workers, the master and the broker have said goes into the settlement, in order.

Runs in the consumer process. Nothing here has an effect on anything outside the process; the second half is
`commit_pipeline.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from supervisor.brokers import base
from supervisor.consumer.observe.file_watch import StateGuard
from supervisor.consumer.observe.observer import Observer
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.consumer.workers.dispatch import Dispatcher
from supervisor.consumer.workers.links import WorkerLinks
from supervisor.consumer.workers.outcomes import Outcomes
from supervisor.errors import BrokerRefused, LedgerError
from supervisor.ledger.base import Ledger, Row
from supervisor.link.frames import Bye, ExitNotice, Hello, Incarnation, Outcome, Publish, Returned, Welcome, WorkerFrame
from supervisor.system.reactor import CallLater

RESUBSCRIBE_S = 1.0


class WorkerHearing:
    """Hears the workers of one session, and the master about their deaths."""

    def __init__(self, settlement: Settlement, outcomes: Outcomes, dispatcher: Dispatcher, links: WorkerLinks) -> None:
        self._settlement = settlement
        self._outcomes = outcomes
        self._dispatcher = dispatcher
        self._links = links
        self._hear: dict[type[WorkerFrame], Callable[[Incarnation, Any], None]] = {
            Hello: self._greet,
            Outcome: outcomes.heard,
            Publish: lambda worker, frame: settlement.publications.publish_for(worker, frame.run, frame.publications),
            Returned: lambda worker, frame: settlement.returned(worker, frame.runs),
            Bye: lambda worker, frame: dispatcher.leave(worker),
        }

    def hear(self, frames: Iterable[tuple[Incarnation, WorkerFrame]]) -> None:
        """Take in what workers have sent. Raises LedgerError; another error in one of `frames` ends its link."""
        for worker, frame in frames:
            try:
                self._hear[type(frame)](worker, frame)
            except LedgerError:
                raise
            except Exception as error:  # noqa: BLE001  (what a worker says must not end the others' consumer)
                self._links.refuse(worker, f"{type(frame).__name__} cannot be handled: {error!r}")

    def hear_exit_notice(self, exit_notice: ExitNotice) -> None:
        """The master declares a worker dead."""
        self._dispatcher.leave(exit_notice.worker)
        self._links.drop(exit_notice.worker)
        # fail-point: consumer.exit-notice-heard: a death is known, not decided upon
        self._outcomes.died(exit_notice)

    def _greet(self, worker: Incarnation, hello: Hello) -> None:
        if not self._outcomes.lives(worker):  # or it would get messages after its only exit notice
            self._links.drop(worker)
            return
        # fail-point: consumer.hello-heard: a worker's hello is read, not answered
        self._outcomes.hand_in(worker.slot)
        self._settlement.greeted(worker, hello.held)
        self._dispatcher.join(worker)
        self._links.send(worker, Welcome())


class BrokerHearing:
    """Hears the broker of one session. `call_later` calls nothing once the session has ended."""

    def __init__(
        self,
        settlement: Settlement,
        broker: base.Broker,
        ledger: Ledger,
        arrivals: Arrivals,
        observer: Observer,
        guard: StateGuard,
        call_later: CallLater,
    ) -> None:
        self._settlement = settlement
        self._broker = broker
        self._ledger = ledger
        self._arrivals = arrivals
        self._observer = observer
        self._delays = delays = observer.delays
        self._call_later = call_later
        self._hear: dict[type[Any], Callable[[Any], None]] = {
            base.Connected: lambda event: guard.look(),  # the embedded queue has its file by now
            base.Subscribed: lambda event: broker.probe(delays.queues()),
            base.Disconnected: self._disconnected,
            base.Cancelled: self._cancelled,
            base.Confirmed: self._confirmed,
            base.Unpublished: lambda event: settlement.unpublished(
                event.token, event.reason, event.lost, event.for_good
            ),
            base.Fatal: self._refused,
            base.Depth: self._depth,
            base.Held: delays.held,
        }

    def hear(self) -> None:
        """Take in what the broker has said; all deliveries of the turn are looked up in the ledger at once.

        Raises LedgerError, and BrokerRefused when the broker will never take this consumer.
        """
        events = list(self._broker.events)
        self._broker.events.clear()
        arrivals = [self._arrivals.identify(event) for event in events if type(event) is base.Delivery]
        known: dict[bytes, list[Row]] = {}
        if arrivals:
            known = self._ledger.look_up([arrival.key for arrival in arrivals])
            self._settlement.decisions.count("delivered", len(arrivals))
            self._observer.health.fed()
            self._observer.health.worn(*self._arrivals.take_worn())
        # fail-point: consumer.delivered: deliveries are looked up, nothing is decided
        following = iter(arrivals)
        for event in events:
            kind = type(event)
            if kind is base.Delivery:
                arrival = next(following)
                rows = known.get(arrival.key, ())
                self._settlement.delivered(self._arrivals.as_known(arrival, rows) if rows else arrival, rows)
                continue
            self._observer.see(event)
            if kind in self._hear:
                self._hear[kind](event)

    def _disconnected(self, event: base.Disconnected) -> None:
        health = self._observer.health
        self._broker.narrow(None if health.calm else self._settlement.pool.workers)
        self._settlement.content_matches.queue_is_ours = health.queue_is_ours
        self._settlement.disconnected()
        self._delays.disconnected()

    def _confirmed(self, event: base.Confirmed) -> None:
        message = self._settlement.publications.confirmed(event.token)
        if message is not None:
            self._settlement.copy_confirmed(message)

    def _cancelled(self, event: base.Cancelled) -> None:
        if event.reason and self._settlement.accepting:
            self._call_later(RESUBSCRIBE_S, self._subscribe_again)

    def _subscribe_again(self) -> None:
        if self._settlement.accepting and not self._observer.subscribed:
            self._broker.subscribe()

    def _refused(self, event: base.Fatal) -> None:
        raise BrokerRefused(event.reason)

    def _depth(self, event: base.Depth) -> None:
        ours = self._settlement.content_matches.queue_is_ours = self._observer.health.queue_is_ours
        empty = self._observer.subscribed and not event.ready
        if empty:
            self._settlement.queue_is_empty()
        self._delays.looked(empty and ours, shared=event.consumers - event.former > 1)
