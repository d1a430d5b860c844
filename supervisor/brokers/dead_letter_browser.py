"""The dead or parked messages of one queue, taken once for a listing or an action, and requeued once at its end.

For the command line and the web page; it blocks. Each requeue counts towards a broker's delivery limit, beyond which
the broker deletes the message: so browse only on a user's request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from supervisor.brokers import open_admin
from supervisor.brokers.admin import BrokerAdmin
from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import retry_copy
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.config.schema import BrokerConfig
from supervisor.errors import PreforkdError

_CHUNK = 1000


class NoSuchQueue(PreforkdError):
    """The queue has no dead-letter or parked queue."""


class DeadLetterBrowser:
    """The messages in `<queue>.dead` or `<queue>.parked`. `depth`: their number at the beginning."""

    def __init__(self, admin: BrokerAdmin, queue: str, name: str, depth: int) -> None:
        self.name = name
        self.depth = depth
        self._admin = admin
        self._queue = queue

    def first(self, limit: int) -> list[Delivery]:
        """Up to `limit` messages, oldest first."""
        return self._admin.take(self.name, limit)

    def all_now(self, chunk: int = _CHUNK) -> Iterator[Delivery]:
        """The messages of the beginning, taken `chunk` at a time; later ones are left alone."""
        left = self.depth
        while left > 0 and (taken := self._admin.take(self.name, min(left, chunk))):
            left -= len(taken)
            yield from taken

    def with_ids(self, ids: Sequence[str]) -> list[Delivery]:
        """All messages whose id is among `ids`."""
        return [delivery for delivery in self.all_now() if delivery.properties.message_id in ids]

    def retry(self, delivery: Delivery) -> None:
        """Move one message back to its work queue."""
        self._admin.move(delivery, retry_copy(delivery, self._queue))

    def drop(self, delivery: Delivery) -> None:
        """Delete one message."""
        self._admin.drop(delivery)


@contextmanager
def open_browser(broker: BrokerConfig, state_dir: str, queue: str, parked: bool) -> Iterator[DeadLetterBrowser]:
    """Connect, and open the dead messages of a queue, or the `parked` ones.

    Raises NoSuchQueue, BrokerRefused or BrokerUnavailable.
    """
    name = parked_queue(queue) if parked else dead_queue(queue)
    with open_admin(broker, state_dir) as admin:
        depth = admin.depth(name)
        if depth is None:
            raise NoSuchQueue(
                f"there is no queue {name}; name the pool or its own queue, not the dead one "
                f"(a pool makes its queues when it first runs)"
            )
        try:
            yield DeadLetterBrowser(admin, queue, name, depth.ready)
        finally:
            admin.requeue_all()
