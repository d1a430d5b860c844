"""The consumer's loop: hears its workers, its master and its broker, decides, commits, acts; one turn after another.

It must never block (the heartbeat hangs on it), never run user code and never fork. If the ledger cannot be written,
the session ends: the connection is closed and nothing is consumed until the ledger can be opened again; workers go on
with what they run and keep the outcome in their slots.
"""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from supervisor.consumer.observe.file_watch import StateMissing
from supervisor.consumer.reports import Reports
from supervisor.consumer.session import Session
from supervisor.errors import BrokerRefused, LedgerError, LedgerUnusable, StateError
from supervisor.ledger import LedgerOpener
from supervisor.ledger.base import Ledger
from supervisor.link import frames
from supervisor.link.channel import Channel
from supervisor.link.child import understood
from supervisor.logs import structured
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.scoreboard.board import CONSUMER, Board
from supervisor.system.reactor import Reactor

LONGEST_SLEEP_S = 2.0
EX_CONFIG = 78
CLOSE_S = 5.0
REOPEN_S = (0.5, 15.0)
"""First and longest wait before a ledger that failed is tried again."""


class Consumer:
    """One pool's consumer."""

    def __init__(
        self, start: frames.StartConsumer, listener: socket.socket, master: Channel[frames.ConsumerOrder]
    ) -> None:
        self._start = start
        self._listener = listener
        self._master = master
        self._reactor = Reactor()
        self._board = Board(Path(start.pool_dir) / "board", owner=False)
        self._reports = Reports(master)
        self._alive = set(start.alive)
        self._session: Session | None = None
        self._opener = LedgerOpener(Path(start.pool_dir), start.ledger, start.fleet)
        self._ledger: Ledger | None = None
        self._lost: StateMissing | None = None  # files of ours that were deleted, moved or replaced
        self._detached: list[Ledger] = []  # those that had them
        self._consuming = False
        self._draining: Counter[str] | None = None  # the counters when the drain began
        self._paused = start.paused
        self._quit = False
        self._obey: dict[type[Any], Callable[[Any], None]] = {
            frames.Spawned: self._on_spawned,
            frames.ExitNotice: self._on_exit_notice,
            frames.Drain: self._on_drain,
            frames.Pause: self._on_pause,
            frames.Resume: self._on_resume,
            frames.Reconfigure: self._on_reconfigure,
            frames.Find: self._on_question,
            frames.FindGone: self._on_question,
            frames.CloseConnection: lambda order: self._session.broker.cut() if self._session else None,
            frames.Quit: self._on_quit,
        }

    def run(self) -> int:
        """Turn until told to quit or the master is gone (ChannelClosed); the exit status."""
        self._reactor.add_handler(self._master, lambda fd, events: None, self._reactor.READ)
        try:
            self._open(REOPEN_S[0])
            while not self._quit:
                try:
                    self.turn()
                except LedgerError as error:
                    self._suspend(error, REOPEN_S[0])
        except (BrokerRefused, LedgerUnusable) as error:
            self._reports.say(frames.Refused(str(error)))
            self._reports.flush()
            return EX_CONFIG
        finally:
            self._leave()
        return 0

    def turn(self) -> None:
        """One pass: hear, decide, make it durable, act, report."""
        due_in_s = self._reports.due_in_s
        self._reactor.poll(LONGEST_SLEEP_S if due_in_s is None else due_in_s)
        self._board.beat(CONSUMER)
        heard = self._session.begin_turn() if self._session else []
        self._hear_master()  # after the workers' frames were read: a ExitNotice sent before a Hello is known before it
        if self._session is not None:
            self._session.turn(heard)
            self._report(self._session)
        self._reports.flush()

    # ---- the master -----------------------------------------------------------------------------------------------

    def _hear_master(self) -> None:
        for order in self._master.receive():
            with understood(order):
                self._obey[type(order)](order)
        self._master.confirm()

    def _on_spawned(self, order: frames.Spawned) -> None:
        self._alive.add(order.worker)
        if self._session is not None:
            self._session.outcomes.renew(order.worker.slot)

    def _on_exit_notice(self, exit_notice: frames.ExitNotice) -> None:
        """Taken once it is durable; without a session it is repeated by the master until then."""
        if self._session is not None:
            self._session.hear_exit_notice(exit_notice)

    def _on_drain(self, order: frames.Drain) -> None:
        if self._session is None:
            self._reports.say(frames.Drained(0, 0, []))
        elif self._draining is None:
            self._draining = self._session.observer.measures.counters.copy()
            self._session.drain()

    def _on_pause(self, order: frames.Pause) -> None:
        self._paused = True
        if self._session is not None:
            self._session.drain()

    def _on_resume(self, order: frames.Resume) -> None:
        self._paused = False
        if self._session is not None:
            self._session.resume()

    def _on_reconfigure(self, order: frames.Reconfigure) -> None:
        self._start = msgspec.structs.replace(self._start, pool=order.pool, log=order.log)
        try:
            structured.configure(order.log, f"consumer {order.pool.name}")
        except StateError as error:  # the master could open it a moment ago: nothing to stop consuming for
            log(Event.CONFIG_INVALID, f"{error}; logging goes on as before", level=logging.WARNING)
        if self._session is not None:
            self._session.reconfigure(order.pool)

    def _on_question(self, order: frames.Find | frames.FindGone) -> None:
        found = frames.Found(order.number, [], "the ledger cannot be read just now")
        self._reports.say(self._session.answers.answer(order) if self._session is not None else found)

    def _on_quit(self, order: frames.Quit) -> None:
        self._quit = True

    def _report(self, session: Session) -> None:
        for worker in session.pipeline.take_exit_notices():
            # fail-point: consumer.exit-notice-durable: an exit notice is durable, the master does not know
            self._reports.say(frames.ExitNoticeTaken(worker, session.outcomes.take_kind(worker)))
            self._alive.discard(worker)
        if not self._consuming and (
            session.observer.subscribed or (self._paused and session.observer.health.connected)
        ):
            self._consuming = True
            self._reports.show(session, now=True)
            self._reports.say(frames.Consuming())
            does, queue = "paused before" if self._paused else "consuming from", self._start.pool.queue
            log(Event.CONSUMER_READY, f"{does} {queue!r}", queue=queue)
        self._reports.say(*session.links.take_misunderstood(), *session.stalls.take())
        if self._draining is not None and session.at_rest:
            # fail-point: consumer.stop-drained: the drain is over, the master does not know
            self._reports.say(session.drain_report(self._draining))
            self._draining = None
        if self._reports.has_room and (news := session.observer.dead_letters.take()) is not None:
            self._reports.say(news)
        self._reports.show(session)

    # ---- the session ----------------------------------------------------------------------------------------------

    def _open(self, retry_s: float) -> None:
        """Open the ledger and consume; while that fails, say why and try again later, ever more rarely."""
        try:
            self._have_back()
            self._ledger = self._opener.open(self._start.pool)
            if (descriptor := self._ledger.fileno()) is not None:  # to be woken by it; the session looks
                self._reactor.add_handler(descriptor, lambda fd, events: None, self._reactor.READ)
            self._session = Session(self._start, self._ledger, self._listener, self._reactor)
            self._session.open(self._alive, consume=not self._paused and self._draining is None)
        except LedgerError as error:
            self._suspend(error, retry_s)

    def _suspend(self, error: LedgerError, retry_s: float) -> None:
        """Give everything back to the broker and wait for the ledger to heal. Raises LedgerUnusable if it cannot."""
        if isinstance(error, LedgerUnusable):
            raise error
        event, until, text = Event.LEDGER_FAILED, "it can be written", f"the ledger failed: {error}"
        if isinstance(error, StateMissing):
            event, until, text = Event.STATE_MISSING, "it is back", str(error)
        if event is Event.LEDGER_FAILED or self._lost is None:
            told = f"{error}; nothing is consumed until {until}; trying again in {retry_s:.1f} s"
            log(event, told, level=logging.ERROR, retry_in_s=round(retry_s, 3))
        self._lost = error if isinstance(error, StateMissing) else None
        self._close()
        self._reports.troubled(event, text)
        next_s = min(retry_s * 2, REOPEN_S[1]) * random.uniform(0.8, 1.0)
        self._reactor.call_later(retry_s, lambda: self._open(next_s))

    def _have_back(self) -> None:
        """Go on where files were lost, once they are back. Raises StateMissing while they are not."""
        if self._lost is not None:
            self._lost.watch.look()
            self._lost.watch.close()
            self._lost = None
            for ledger in self._detached:
                ledger.close()
            self._detached.clear()

    def _close(self) -> None:
        session, ledger = self._session, self._ledger
        self._session = self._ledger = None
        if session is not None:
            with suppress(LedgerError):
                session.close(CLOSE_S)
        if ledger is None:
            return
        if (descriptor := ledger.fileno()) is not None:
            self._reactor.remove_handler(descriptor)
        if self._lost is not None:
            ledger.detach()
            self._detached.append(ledger)
            return
        with suppress(LedgerError):
            ledger.close()

    def _leave(self) -> None:
        """Close everything; a ledger whose file was deleted meanwhile is written again from what is still open."""
        self._close()
        for ledger in self._detached:
            try:
                ledger.write_again()
            except LedgerError as error:
                log(Event.LEDGER_FAILED, f"{error}; its rows are lost", level=logging.ERROR)
