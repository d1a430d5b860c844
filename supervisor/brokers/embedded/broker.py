"""The embedded queue for a consumer: the model of AMQP (epochs, tags, prefetch, confirms) over one SQLite file.

Runs in the consumer process; file, lock and notification are opened and lost together, like a connection. All writes
of a turn are one transaction in `flush()`; nothing is handed out or confirmed before it is committed. It must never
raise for what the disk does: a failed transaction ends the epoch, as a lost connection would, and the file is opened
again. Not here: exchanges other than the default one, priorities, expiration. One consumer per queue, by a lock.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from supervisor.brokers.base import (
    Broker,
    BrokerEvent,
    Cancelled,
    Confirmed,
    Connected,
    Delivery,
    Depth,
    Disconnected,
    Fatal,
    Outgoing,
    Subscribed,
    Unpublished,
)
from supervisor.brokers.embedded.notification import listen, queue_file, ring, silence
from supervisor.brokers.embedded.store import FILE_NAME, Store, Stored, StoreError
from supervisor.brokers.names import dead_queue, delay_step_s, parked_queue
from supervisor.config.schema import PoolConfig
from supervisor.messages.message import Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.locks import FileLock, LockHeld
from supervisor.system.reactor import Reactor, Timer

_LOOK_EVERY_S = 1.0
_REOPEN_S = (0.1, 10.0)  # first and longest wait before the file is opened again
_CUT = "the connection was cut on request"


class _Line:
    """File, lock and notification, which are a connection here. Raises LockHeld, OSError or StoreError."""

    def __init__(self, state_dir: Path, queue: str) -> None:
        (state_dir / "embedded").mkdir(mode=0o700, exist_ok=True)
        self._lock = FileLock(queue_file(state_dir, queue, "lock"))
        try:
            self.store = Store(state_dir)
        except StoreError:
            self._lock.close()
            raise
        self._socket_file = queue_file(state_dir, queue, "bell")
        self.notified = listen(self._socket_file)

    def close(self) -> None:
        if self.notified is not None:
            self._socket_file.unlink(missing_ok=True)
            self.notified.close()
        self.store.close()
        self._lock.close()


class EmbeddedBroker(Broker):
    """A pool's connection to its queue in `state_dir`/embedded.db."""

    def __init__(self, pool: PoolConfig, state_dir: str, reactor: Reactor) -> None:
        self.events: deque[BrokerEvent] = deque()
        self._pool = pool
        self._state_dir = Path(state_dir)
        self._host = f"embedded:{self._state_dir / FILE_NAME}"
        self._reactor = reactor
        self._line: _Line | None = None
        self._timer: Timer | None = None
        self._reopen_s = _REOPEN_S[0]
        self._opened = 0
        self._closed = False
        self._wanted = True  # to be subscribed
        self._subscribed = False
        self._epoch = 0
        self._next_tag = itertools.count(1)
        self._held: dict[int, int] = {}  # tag -> id in the file, of this epoch; no tag is used twice
        self._aside: set[int] = set()  # tags that take no room
        self._acked: list[int] = []
        self._outgoing: list[Outgoing] = []
        self._look = False  # the queue may have ready messages that are not held
        self._next_ready_s: float | None = None  # as the file counts time

    # ---- what the consumer asks -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._reactor.add_callback(self._connect)

    def subscribe(self) -> None:
        self._wanted = True
        if self._line is not None:
            self._reactor.add_callback(self._declare_and_subscribe)

    def cancel(self) -> None:
        self._wanted = self._subscribed = False
        self._tell(Cancelled(""))

    def ack(self, epoch: int, tag: int) -> None:
        message = self._held.pop(tag, None) if epoch == self._epoch else None
        if message is not None:
            self._acked.append(message)

    def requeue(self, epoch: int, tag: int) -> None:
        if epoch == self._epoch and self._held.pop(tag, None) is not None:
            self._look = True

    def set_aside(self, tags: Sequence[tuple[int, int]]) -> None:
        self._aside = {tag for epoch, tag in tags if epoch == self._epoch}
        self._look = True

    def publish(self, outgoing: Outgoing) -> None:
        self._outgoing.append(outgoing)

    def flush(self) -> None:
        if self._line is None:
            self._give_up_publishing("the embedded queue is not open")
        elif self._acked or self._outgoing or self._wants_more:
            self._guarded(self._write)

    def probe(self, delay_queues: Sequence[str] = ()) -> None:
        self._guarded(self._probe)

    def cut(self) -> None:
        if self._line is not None:
            self._lose(_CUT, _REOPEN_S[0])

    def close(self, timeout_s: float) -> None:
        self.flush()
        self._closed = True
        self._stop_timer()
        self._hang_up()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def silent_s(self) -> float:
        return 0.0

    @property
    def connections_opened(self) -> int:
        return self._opened

    # ---- opening and losing ---------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._closed or self._line is not None:
            return
        try:
            self._line = _Line(self._state_dir, self._pool.queue)
        except LockHeld as held:
            self._refuse(f"queue {self._pool.queue!r} already has a consumer (pid {held.holder}): it can have one only")
        except StoreError as error:
            self._failed(error)
        except OSError as error:
            self._failed(StoreError(f"{error.filename}: {error.strerror}", lasting=False))
        else:
            self._connected(self._line)

    def _connect_again(self) -> None:
        self._timer = None
        self._connect()

    def _connected(self, line: _Line) -> None:
        self._opened += 1
        self._epoch += 1
        if line.notified is not None:
            self._reactor.add_handler(line.notified, self._on_notification, self._reactor.READ)
        self._tell(Connected(self._host))
        self._declare_and_subscribe()
        self._look_again_later()

    def _declare_and_subscribe(self) -> None:
        if self._guarded(self._declare) and self._wanted and not self._subscribed:
            self._subscribed = self._look = True
            self._tell(Subscribed(self._epoch))

    def _declare(self, line: _Line) -> None:
        queue = self._pool.queue
        own = [queue] if self._pool.declare else []
        with line.store.transaction():
            line.store.end_dead_leases()
            line.store.ensure_queues([*own, dead_queue(queue), parked_queue(queue)])
            if not line.store.has_queue(queue):
                raise StoreError(f"no such queue {queue!r}: publish to it once, or set declare = true", lasting=True)

    def _failed(self, error: StoreError) -> None:
        if error.lasting:
            self._refuse(str(error))
            return
        self._lose(str(error), self._reopen_s)
        self._reopen_s = min(self._reopen_s * 2, _REOPEN_S[1])

    def _refuse(self, reason: str) -> None:
        self._hang_up()
        self._stop_timer()
        self._tell(Fatal(reason))

    def _lose(self, reason: str, retry_in_s: float) -> None:
        """End the epoch: unsettled messages are still in the file."""
        self._hang_up()
        self._tell(Disconnected(reason, self._host, retry_in_s))
        self._stop_timer()
        self._timer = self._reactor.call_later(retry_in_s, self._connect_again)

    def _hang_up(self) -> None:
        self._give_up_publishing("the embedded queue was closed before this was written")
        self._subscribed = False
        self._held.clear()
        self._acked.clear()
        if self._line is not None:
            if self._line.notified is not None:
                self._reactor.remove_handler(self._line.notified)
            self._line.close()
            self._line = None

    def _give_up_publishing(self, reason: str) -> None:
        for outgoing in self._outgoing:
            self._tell(Unpublished(outgoing.token, reason, lost=True))
        self._outgoing.clear()

    # ---- reading and writing --------------------------------------------------------------------------------------

    @property
    def _wants_more(self) -> bool:
        return self._look and self._subscribed and self._room > 0

    @property
    def _room(self) -> int:
        return self._pool.prefetch - len(self._held.keys() - self._aside)

    def _write(self, line: _Line) -> None:
        """Write all requests of the pass in one transaction, then report the results."""
        store, fresh, gone = line.store, list[Stored](), False
        with store.transaction(durable=bool(self._outgoing)):  # a lost ack only means a duplicate, known to the ledger
            # fail-point: consumer.embedded-writing: the broker's transaction is open
            store.delete(self._acked)
            refusals = [self._put(store, outgoing) for outgoing in self._outgoing]
            if self._wants_more:
                gone = not store.has_queue(self._pool.queue)
                fresh = self._fetch(store)
        if self._acked or self._outgoing or fresh:
            self._reopen_s = _REOPEN_S[0]
        self._acked.clear()
        # fail-point: consumer.embedded-written: acks and publishes are in the queue, fates untold
        self._tell_fates(refusals)
        for stored in fresh:
            self._deliver(stored)
        if gone:
            self._wanted = self._subscribed = False
            self._tell(Cancelled(f"queue {self._pool.queue!r} was deleted"))
        self._look_again_later()

    def _put(self, store: Store, outgoing: Outgoing) -> str:
        if outgoing.delay_s > 0:
            exchange, queue, delay_s = "", self._pool.queue, delay_step_s(outgoing.delay_s)
        else:
            exchange, queue, delay_s = outgoing.exchange, outgoing.routing_key, 0.0
        if queue == self._pool.queue:
            self._look = True
        publication = Publication(exchange, queue, outgoing.properties, outgoing.body)
        refusal = store.publish(publication, delay_s)
        if refusal and not exchange and queue in (dead_queue(self._pool.queue), parked_queue(self._pool.queue)):
            store.ensure_queues([queue])  # it was there when the epoch began
            refusal = store.publish(publication, delay_s)
        return refusal

    def _fetch(self, store: Store) -> list[Stored]:
        now_s = store.now_s  # one time for both queries: no message becomes ready between them
        room = self._room
        fresh = store.fetch(self._pool.queue, set(self._held.values()), room, now_s)
        self._look = len(fresh) == room
        if not self._look:
            self._next_ready_s = store.next_ready_s(self._pool.queue, now_s)
        return fresh

    def _tell_fates(self, refusals: list[str]) -> None:
        for outgoing, refusal in zip(self._outgoing, refusals, strict=True):
            self._tell(Unpublished(outgoing.token, refusal) if refusal else Confirmed(outgoing.token))
        others = {outgoing.routing_key for outgoing in self._outgoing} - {self._pool.queue}
        for queue in others:
            ring(queue_file(self._state_dir, queue, "bell"))
        self._outgoing.clear()

    def _deliver(self, stored: Stored) -> None:
        tag = next(self._next_tag)
        self._held[tag] = stored.id
        queue = self._pool.queue
        self._tell(Delivery(self._epoch, tag, "", queue, stored.redelivered, stored.properties, stored.body))

    def _probe(self, line: _Line) -> None:
        with line.store.guarded():
            ready = line.store.ready(self._pool.queue) - len(self._held) - len(self._acked)
        self._tell(Depth(max(0, ready), int(self._subscribed)))

    # ---- when to look ---------------------------------------------------------------------------------------------

    def _on_notification(self, fd: int, events: int) -> None:
        if self._line is not None and self._line.notified is not None:
            silence(self._line.notified)
        self._look = True
        self.flush()

    def _on_timer(self) -> None:
        self._timer = None
        if self._guarded(self._notice):
            self.flush()
            self._look_again_later()

    def _notice(self, line: _Line) -> None:
        """Once a second: changes without a notification (due messages, other writers, leases of the dead)."""
        due = self._next_ready_s is not None and self._next_ready_s <= line.store.now_s
        if line.store.changed() or line.store.end_dead_leases() or due:
            self._look = True

    def _look_again_later(self) -> None:
        """Set the timer for the next delayed message or the next check, unless it is due earlier."""
        if self._line is None:
            return
        wait_s = _LOOK_EVERY_S
        if self._next_ready_s is not None:
            wait_s = min(wait_s, max(0.0, self._next_ready_s - self._line.store.now_s) + 0.001)
        if self._timer is None or self._timer.due_s > monotonic_s() + wait_s:
            self._stop_timer()
            self._timer = self._reactor.call_later(wait_s, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
            self._timer = None

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _guarded(self, action: Callable[[_Line], None]) -> bool:
        """Whether `action` was done; an error of the file ends the epoch."""
        if self._line is None:
            return False
        try:
            action(self._line)
        except StoreError as error:
            self._failed(error)
            return False
        return True

    def _tell(self, event: BrokerEvent) -> None:
        if not self.events:
            self._reactor.add_callback(lambda: None)  # starts another pass: the loop would sleep on it
        self.events.append(event)
