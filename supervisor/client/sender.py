"""The thread of a client: owns the one connection, publishes what the intake has, and tells each message's fate.

Runs in user processes as a daemon thread that blocks all signals. It never ends by what broker or network do. An error
of its own fails all messages and ends it; the next message starts another. It must not touch the application's logging,
signals or event loop; what it tells goes to the logger `preforkd.client`.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

from supervisor.brokers.base import Blocked, Confirmed, Connected, Disconnected, Fatal, Outgoing, Unblocked, Unpublished
from supervisor.brokers.producer import Producer
from supervisor.client.backlog import Backlog, Item
from supervisor.client.errors import (
    ClientClosed,
    ClientError,
    ClientFailed,
    LoginRefused,
    Refused,
    TimedOut,
    Unroutable,
    for_programs,
)
from supervisor.client.intake import Intake
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

OpenProducer = Callable[[Reactor], Producer]

_GOODBYE_S = 2.0
"""How long the closing of the connection may take, once nothing is left to confirm."""

_SHOWN = 3

_log = logging.getLogger("preforkd.client")


class Sender:
    """One thread with its reactor. It starts at once, and connects."""

    def __init__(self, open_producer: OpenProducer, max_messages: int, max_bytes: int) -> None:
        """`open_producer`: called in the thread. `max_messages`, `max_bytes`: as of Intake."""
        self._reactor = Reactor()
        self.intake = Intake(max_messages, max_bytes, self._wake)
        self._open_producer = open_producer
        self._backlog = Backlog(self.intake.release)
        self._producer: Producer | None = None
        self._host = ""
        self._ready = self._blocked = False
        self._lost_before = False
        self._trouble = ""
        self._close_by_s: float | None = None
        self._failed: list[Item] = []
        self.unconfirmed: list[str] = []
        """The ids of messages without a confirm at the end."""
        self._thread = threading.Thread(target=self._run, name="preforkd.client", daemon=True)
        self._thread.start()

    # ---- calls from other threads ---------------------------------------------------------------------------------

    def finish(self, timeout_s: float) -> None:
        """Take no more messages, and end within `timeout_s`. Does not wait."""
        self.intake.close(lambda: self._close_by(monotonic_s() + timeout_s))

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; False if it has not come, or this is that thread."""
        if self.is_this_thread:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_this_thread(self) -> bool:
        """Whether the caller runs in this thread: in a callback of a future."""
        return self._thread is threading.current_thread()

    def disown(self) -> None:
        """In a fork of the process, where the thread does not run: close what is inherited, touch nothing else.

        SQLite's files stay open, as nothing in a fork may touch them (sqlite.org/howtocorrupt.html, 2.6).
        Raises OSError where no descriptor is free.
        """
        self._reactor.disown()
        self._reactor.close()

    def _close_by(self, time_s: float) -> None:
        self._close_by_s = time_s

    def _wake(self) -> None:
        self._reactor.add_callback(lambda: None)

    # ---- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        end: tuple[type[ClientError], str] = (ClientClosed, "the client was closed")
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # those are the application's
        try:
            self._producer = self._open_producer(self._reactor)
            self._producer.start()
            while not self._is_over():
                self._turn(self._producer)
            self._say_goodbye(self._producer)
        except Exception as error:  # noqa: BLE001  (whatever it is, no caller may wait for ever)
            _log.exception("the client's thread ended by an error; the next message starts another")
            end = (ClientFailed, f"the client's thread ended by an error of its own ({error!r})")
            self._fail_all(*end)
            self._reactor.disown()
        finally:
            for item in self.intake.end(self._reactor.close):
                item.fail(*end)

    def _turn(self, producer: Producer) -> None:
        """One pass: hear, give up what is overdue, send what may be sent."""
        self._reactor.poll(self._wait_s())
        self._take()
        self._hear(producer)
        now_s = monotonic_s()
        for item in self._backlog.overdue(now_s):
            self._fail(item, TimedOut, f"no confirm within {item.limit_s:g} s: {self._why_not()}")
        self._send(producer)
        self._report_failures()

    def _take(self) -> None:
        for item in self.intake.take():
            self._backlog.add(item)

    def _send(self, producer: Producer) -> None:
        """Hand over what the window has room for; what is confirmed at once makes room again."""
        while self._ready and not self._blocked:
            self._backlog.send_again()
            sent = False
            while (item := self._backlog.next_to_send()) is not None:
                one = item.publication
                producer.publish(
                    Outgoing(item.token, one.exchange, one.routing_key, one.properties, one.body, item.delay_s)
                )
                sent = True
            producer.flush()
            self._hear(producer)
            if not sent:
                return

    def _hear(self, producer: Producer) -> None:
        while producer.events:
            event = producer.events.popleft()
            match event:
                case Confirmed():
                    self._backlog.confirmed(event.token)
                case Unpublished():
                    self._on_unpublished(event)
                case Connected():
                    self._on_connected(event.host)
                case Disconnected():
                    self._on_disconnected(event)
                case Fatal():
                    self._on_refused(event.reason)
                case Blocked():
                    self._on_blocked(event.reason)
                case Unblocked():
                    self._on_unblocked()

    def _on_unpublished(self, event: Unpublished) -> None:
        item = self._backlog.unpublished(event.token, event.lost)
        if item is None:  # or it is sent again
            return
        kind = Unroutable if event.unroutable else Refused
        self._fail(item, kind, f"{self._host}: {event.reason}", event.absent)

    def _on_connected(self, host: str) -> None:
        self._host, self._ready, self._blocked, self._lost_before = host, True, False, False
        self.intake.tell("")
        _log.info("connected to %s", host)

    def _on_disconnected(self, event: Disconnected) -> None:
        self._ready = False
        trouble = f"{event.host} is away: {event.reason}; the next attempt follows in {event.retry_in_s:.1f} s"
        self.intake.tell(trouble)
        _log.log(
            logging.DEBUG if self._lost_before else logging.WARNING,
            "%s; %d message(s) are kept",
            trouble,
            len(self._backlog),
        )
        self._lost_before = True
        self._trouble = trouble

    def _on_refused(self, refusal: str) -> None:
        self._ready, reason = False, for_programs(refusal)
        self.intake.tell(reason, refusal=reason)
        _log.error("the broker refuses the client: %s", reason)
        self._fail_all(LoginRefused, f"the broker refuses the client: {reason}")

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True
        self._trouble = f"{self._host} accepts no publications ({reason}): see its memory and disk"
        self.intake.tell(self._trouble)
        _log.warning("%s", self._trouble)

    def _on_unblocked(self) -> None:
        if self._blocked and self._ready:
            self.intake.tell("")
            _log.info("%s accepts publications again", self._host)
        self._blocked = False

    # ---- ends -----------------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        if self._close_by_s is None:
            return False
        self._take()  # the last ones: the intake is closed
        return not len(self._backlog.untold) or monotonic_s() >= self._close_by_s

    def _say_goodbye(self, producer: Producer) -> None:
        self.unconfirmed = [item.message_id for item in self._backlog.untold]
        self._fail_all(ClientClosed, f"the client was closed before its confirm: {self._why_not()}")
        if self.unconfirmed:
            shown = ", ".join(map(repr, self.unconfirmed[:_SHOWN]))
            _log.error("closed with %d message(s) without a confirm: %s", len(self.unconfirmed), shown)
        self._reactor.call_later(_GOODBYE_S, producer.cut)
        until_s = monotonic_s() + 2 * _GOODBYE_S
        producer.close()
        while not producer.closed and monotonic_s() < until_s:
            self._reactor.poll(_GOODBYE_S)

    def _fail_all(self, kind: type[ClientError], reason: str) -> None:
        self._take()
        for item in self._backlog.forget_untold():
            self._fail(item, kind, reason)
        self._report_failures()

    def _fail(self, item: Item, kind: type[ClientError], reason: str, absent: bool = False) -> None:
        item.fail(kind, reason, absent)
        if not item.waited_for:
            self._failed.append(item)

    def _report_failures(self) -> None:
        """Messages of `submit`: a program may never look at their futures."""
        if self._failed:
            failed, self._failed = self._failed, []
            _log.warning("%d message(s) failed; the first: %s", len(failed), failed[0].future.exception())

    def _why_not(self) -> str:
        if self._ready and not self._blocked:
            return f"{self._host} has not confirmed it"
        return self._trouble or "there was no connection yet"

    def _wait_s(self) -> float | None:
        """How long the next pass may wait for events, in seconds."""
        due_s = [due for due in (self._backlog.next_due_s, self._close_by_s) if due is not None]
        return max(0.0, min(due_s) - monotonic_s()) if due_s else None
