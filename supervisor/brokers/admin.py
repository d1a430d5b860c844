"""What the command line asks of a broker: publish, look into queues, take messages out. Blocking, not for daemons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

import msgspec

from supervisor.brokers.base import Delivery, Depth
from supervisor.config.schema import PoolConfig
from supervisor.messages.message import Publication


class PublishReport(msgspec.Struct, frozen=True):
    """How a publish run ended: `sent` counts confirmed messages only; `failed` pairs an index with the reason.

    `absent`: the indexes of failed ones that are certainly in no queue. Of the other failed ones this is not known.
    """

    sent: int
    failed: list[tuple[int, str]]
    absent: frozenset[int] = frozenset()


class BrokerFacts(msgspec.Struct, frozen=True):
    """What `check` learns: the server, and remarks an operator should read (each says what to do)."""

    server: str
    remarks: list[str]


class PoolReview(msgspec.Struct, frozen=True):
    """Findings of `check` about one pool's queues: reasons why it cannot work, and risks to its messages."""

    errors: list[str]
    remarks: list[str]


class BrokerAdmin(ABC):
    """One connection, opened by the constructor (raises BrokerRefused or BrokerUnavailable), closed by `close()`."""

    @abstractmethod
    def publish(
        self, messages: Iterable[Publication], window: int, on_confirmed: Callable[[int], None]
    ) -> PublishReport:
        """Publish over one channel, at most `window` unconfirmed; `on_confirmed(total)` as confirms arrive.

        Persistent and mandatory. A lost connection ends the run: the unconfirmed are in `failed`.
        """

    @abstractmethod
    def depth(self, queue: str) -> Depth | None:
        """How deep a queue is; None when there is no such queue."""

    @abstractmethod
    def take(self, queue: str, limit: int) -> list[Delivery]:
        """Take up to `limit` messages without settling them; they stay ours until settled, or `requeue_all`."""

    @abstractmethod
    def drop(self, delivery: Delivery) -> None:
        """Delete a taken message."""

    @abstractmethod
    def move(self, delivery: Delivery, publication: Publication) -> None:
        """Publish, wait for the confirm, then delete the taken message. Raises BrokerUnavailable: both remain."""

    @abstractmethod
    def requeue_all(self) -> None:
        """Return every taken message that was not settled, once, in order."""

    @abstractmethod
    def ensure_queue(self, queue: str) -> None:
        """Make a durable queue where there is none (quorum on RabbitMQ)."""

    @abstractmethod
    def delete_queue(self, queue: str) -> None:
        """Delete a queue with all that is in it; silent when there is none."""

    @abstractmethod
    def facts(self, queue: str) -> BrokerFacts:
        """Facts and remarks about the server and this queue, without changing anything."""

    @abstractmethod
    def review(self, pool: PoolConfig, pools: Sequence[PoolConfig]) -> PoolReview:
        """Whether a pool could work: its rights, its queues. Changes nothing. `pools`: all that share the account."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; unsettled messages return to their queues."""

    def __enter__(self) -> BrokerAdmin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
