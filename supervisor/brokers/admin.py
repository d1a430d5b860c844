"""A broker for the command line: publish, inspect queues, take messages out. Blocking, not for daemons."""

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
    """Facts for `check`: the server, and remarks for the operator (each says what to do)."""

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
        """The depth of a queue; None if there is no such queue. Raises BrokerUnavailable and BrokerRefused."""

    @abstractmethod
    def take(self, queue: str, limit: int) -> list[Delivery]:
        """Take up to `limit` messages without settling them; they are held until settled, or `requeue_all`."""

    @abstractmethod
    def drop(self, delivery: Delivery) -> None:
        """Delete a taken message."""

    @abstractmethod
    def move(self, delivery: Delivery, publication: Publication) -> None:
        """Publish, wait for the confirm, then delete the taken message. Raises BrokerUnavailable; it then remains."""

    @abstractmethod
    def requeue_all(self) -> None:
        """Requeue every unsettled message, once, in order."""

    @abstractmethod
    def ensure_queue(self, queue: str) -> None:
        """Make a durable queue if it is missing (quorum on RabbitMQ)."""

    @abstractmethod
    def delete_queue(self, queue: str) -> None:
        """Delete a queue with its messages; nothing if there is none."""

    @abstractmethod
    def facts(self, queue: str) -> BrokerFacts:
        """Facts and remarks about the server and this queue. Changes nothing."""

    @abstractmethod
    def review(self, pool: PoolConfig, pools: Sequence[PoolConfig]) -> PoolReview:
        """Check a pool's rights and queues. Changes nothing. `pools`: all pools with the same account."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; unsettled messages return to their queues."""

    def __enter__(self) -> BrokerAdmin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
