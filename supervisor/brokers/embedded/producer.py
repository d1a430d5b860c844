"""The embedded queue for a program that only publishes: for trials on one machine, as the daemon's own `embedded:`.

Runs in a client's thread. The file is that of `state_dir`; the program must run as the daemon's user. All publications
of a pass are one durable transaction, so a confirm means the same as the consumer's.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from supervisor.brokers.base import BrokerEvent, Confirmed, Connected, Disconnected, Fatal, Outgoing, Unpublished
from supervisor.brokers.embedded.notification import queue_file, ring
from supervisor.brokers.embedded.store import FILE_NAME, Store, StoreError
from supervisor.brokers.names import delay_step_s
from supervisor.brokers.producer import Producer
from supervisor.messages.message import Publication
from supervisor.system.reactor import Reactor, Timer

_REOPEN_S = (0.1, 10.0)
"""First and longest wait before the file is opened again."""


class EmbeddedProducer(Producer):
    """A connection to `state_dir`/embedded.db, which is opened when it can be."""

    def __init__(self, state_dir: Path, reactor: Reactor) -> None:
        self.events: deque[BrokerEvent] = deque()
        self._state_dir = state_dir
        self._host = f"embedded:{state_dir / FILE_NAME}"
        self._reactor = reactor
        self._store: Store | None = None
        self._outgoing: list[Outgoing] = []
        self._reopen_s = _REOPEN_S[0]
        self._timer: Timer | None = None

    def start(self) -> None:
        self._timer = None
        if not self._state_dir.is_dir():
            self._lose(f"there is no folder {self._state_dir}: start the daemon once (`preforkd start`)", lasting=False)
            return
        try:
            self._store = Store(self._state_dir)
        except StoreError as error:
            self._lose(str(error), error.lasting)
        else:
            self._reopen_s = _REOPEN_S[0]
            self.events.append(Connected(self._host))

    def publish(self, outgoing: Outgoing) -> None:
        self._outgoing.append(outgoing)

    def flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if not outgoing:
            return
        if self._store is None:
            self.events.extend(Unpublished(one.token, "the embedded queue is not open", lost=True) for one in outgoing)
            return
        try:
            with self._store.transaction():
                refusals = [_put(self._store, one) for one in outgoing]
        except StoreError as error:  # told at once: waiting does not free a full disk
            self.events.extend(Unpublished(one.token, str(error)) for one in outgoing)
            self._lose(str(error), error.lasting)
            return
        for one, refusal in zip(outgoing, refusals, strict=True):
            refused = Unpublished(one.token, refusal, absent=True, unroutable=not one.exchange)
            self.events.append(refused if refusal else Confirmed(one.token))
        for queue in {one.routing_key for one in outgoing}:
            ring(queue_file(self._state_dir, queue, "bell"))

    def close(self) -> None:
        if self._timer is not None:
            self._reactor.remove_timeout(self._timer)
        self.cut()

    def cut(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def closed(self) -> bool:
        return self._store is None

    def _lose(self, reason: str, lasting: bool) -> None:
        self.cut()
        self.events.append(Fatal(reason) if lasting else Disconnected(reason, self._host, self._reopen_s))
        self._timer = self._reactor.call_later(self._reopen_s, self.start)
        self._reopen_s = min(self._reopen_s * 2, _REOPEN_S[1])


def _put(store: Store, outgoing: Outgoing) -> str:
    delay_s = delay_step_s(outgoing.delay_s) if outgoing.delay_s > 0 else 0.0
    publication = Publication(outgoing.exchange, outgoing.routing_key, outgoing.properties, outgoing.body)
    return store.publish(publication, delay_s)
