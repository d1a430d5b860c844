"""The embedded queue as the command line sees it: publish, look into queues, take messages out. Blocking.

Taken messages are leased in the file to this process: no other process gets them, and the lease ends with this process.
It never takes from a queue with a consumer: only that consumer knows which messages it holds.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from supervisor.brokers.admin import BrokerAdmin, BrokerFacts, PoolReview, PublishReport
from supervisor.brokers.base import Delivery, Depth
from supervisor.brokers.embedded.notification import queue_file, ring
from supervisor.brokers.embedded.store import Store, StoreError, new_lease
from supervisor.config.schema import PoolConfig
from supervisor.errors import BrokerRefused, BrokerUnavailable
from supervisor.messages.message import Publication
from supervisor.system.locks import lock_holder


class EmbeddedAdmin(BrokerAdmin):
    """A connection of its own to `state_dir`/embedded.db. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = Path(state_dir)
        if not self._state_dir.is_dir():
            raise BrokerUnavailable(
                f"{state_dir}: the embedded queue lives in the state directory, and there is none yet: "
                "start the daemon once (`preforkd start`)"
            )
        with _explained():
            self._store = Store(self._state_dir)
        self._lease = new_lease(uuid4().hex)

    def publish(
        self, messages: Iterable[Publication], window: int, on_confirmed: Callable[[int], None]
    ) -> PublishReport:
        sent, failed, absent = 0, list[tuple[int, str]](), set[int]()
        numbered = enumerate(messages)
        while batch := list(itertools.islice(numbered, window)):
            try:
                refused = self._publish_batch([message for _, message in batch])
            except StoreError as error:
                failed += [(index, str(error)) for index, _ in batch]
                break
            failed += [(batch[position][0], reason) for position, reason in refused]
            absent |= {batch[position][0] for position, _ in refused}
            sent += len(batch) - len(refused)
            on_confirmed(sent)
        return PublishReport(sent, failed, frozenset(absent))

    def depth(self, queue: str) -> Depth | None:
        with _explained(), self._store.guarded():
            if not self._store.has_queue(queue):
                return None
            return Depth(self._store.ready(queue), int(self._consumer(queue) is not None))

    def take(self, queue: str, limit: int) -> list[Delivery]:
        with _explained(), self._store.transaction(durable=False):
            consumer = self._consumer(queue)
            if consumer is not None:
                raise BrokerRefused(f"queue {queue!r} has a consumer (pid {consumer}): stop the daemon first")
            self._store.end_dead_leases()
            taken = self._store.take(queue, limit, self._lease)
        return [Delivery(0, one.id, "", queue, one.redelivered, one.properties, one.body) for one in taken]

    def drop(self, delivery: Delivery) -> None:
        with _explained(), self._store.transaction():
            self._store.delete_leased(delivery.tag, self._lease)

    def move(self, delivery: Delivery, publication: Publication) -> None:
        with _explained(), self._store.transaction():
            reason = self._store.publish(publication)
            if reason:
                raise BrokerUnavailable(f"the message stays in {delivery.routing_key!r}: {reason}")
            if not self._store.delete_leased(delivery.tag, self._lease):
                raise BrokerUnavailable(f"the message is in {delivery.routing_key!r} no more: it was not moved")
        self._ring([publication.routing_key])

    def requeue_all(self) -> None:
        with _explained(), self._store.transaction(durable=False):
            self._store.end_lease(self._lease)

    def ensure_queue(self, queue: str) -> None:
        with _explained(), self._store.transaction():
            self._store.ensure_queues([queue])

    def delete_queue(self, queue: str) -> None:
        with _explained(), self._store.transaction():
            self._store.delete_queue(queue)
        self._ring([queue])

    def facts(self, queue: str) -> BrokerFacts:
        return BrokerFacts(f"embedded queue (SQLite {sqlite3.sqlite_version})", [])

    def review(self, pool: PoolConfig, pools: Sequence[PoolConfig]) -> PoolReview:
        return PoolReview([], [])

    def close(self) -> None:
        try:
            self.requeue_all()
        finally:
            self._store.close()

    def _publish_batch(self, batch: list[Publication]) -> list[tuple[int, str]]:
        with self._store.transaction():
            reasons = [self._store.publish(publication) for publication in batch]
        self._ring(publication.routing_key for publication in batch)
        return [(position, reason) for position, reason in enumerate(reasons) if reason]

    def _ring(self, queues: Iterable[str]) -> None:
        for queue in set(queues):
            ring(queue_file(self._state_dir, queue, "bell"))

    def _consumer(self, queue: str) -> str | None:
        try:
            return lock_holder(queue_file(self._state_dir, queue, "lock"))
        except OSError as error:
            raise BrokerUnavailable(f"{error.filename}: {error.strerror}") from error


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise (BrokerRefused if error.lasting else BrokerUnavailable)(str(error)) from error
