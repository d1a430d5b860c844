"""The dead or parked messages of one queue, taken out for one command and given back once at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from supervisor.brokers import open_admin
from supervisor.brokers.admin import BrokerAdmin
from supervisor.brokers.base import Delivery
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.cli.invocation import Invocation
from supervisor.consumer.copies import without_diagnosis
from supervisor.errors import PreforkdError
from supervisor.message import Publication

_CHUNK = 1000


class DeadLetters:
    """What lies in `<queue>.dead` or `<queue>.parked`. `depth`: how many messages that was at the beginning."""

    def __init__(self, admin: BrokerAdmin, queue: str, name: str, depth: int) -> None:
        self.name = name
        self.depth = depth
        self._admin = admin
        self._queue = queue

    def first(self, limit: int) -> list[Delivery]:
        """Up to `limit` messages, oldest first."""
        return self._admin.take(self.name, limit)

    def all_now(self) -> Iterator[Delivery]:
        """The messages that were there at the beginning, in chunks; those that arrive meanwhile are left
        alone.
        """
        left = self.depth
        while left > 0 and (taken := self._admin.take(self.name, min(left, _CHUNK))):
            left -= len(taken)
            yield from taken

    def with_ids(self, ids: Sequence[str]) -> list[Delivery]:
        """The messages with these ids, all of them where an id is there more than once."""
        return [delivery for delivery in self.all_now() if delivery.properties.message_id in ids]

    def retry(self, delivery: Delivery) -> None:
        """Move one message back to its work queue."""
        self._admin.move(delivery, retry_copy(delivery, self._queue))

    def drop(self, delivery: Delivery) -> None:
        """Delete one message."""
        self._admin.drop(delivery)


@contextmanager
def open_dead_letters(invocation: Invocation, queue: str, parked: bool) -> Iterator[DeadLetters]:
    """Connect to the broker and look into one queue. Raises PreforkdError where there is no such queue."""
    name = parked_queue(queue) if parked else dead_queue(queue)
    with open_admin(invocation.config.broker, str(invocation.state_dir)) as admin:
        depth = admin.depth(name)
        if depth is None:
            raise PreforkdError(
                f"there is no queue {name}; name the pool's own queue, not the dead one "
                f"(a pool makes its queues when it first runs)"
            )
        try:
            yield DeadLetters(admin, queue, name, depth.ready)
        finally:
            admin.give_back_all()


def retry_copy(delivery: Delivery, queue: str) -> Publication:
    """The message as it goes back to `queue`: with its stamps, without the diagnosis it was given up with."""
    return Publication("", queue, without_diagnosis(delivery.properties), delivery.body)
