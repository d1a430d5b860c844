"""The interface of a broker for a program that only publishes (`supervisor.client`), and nothing else.

Runs in the thread of a client, inside of a user's process. Calls never block, and never raise for a fault of broker or
network; every result is an event in `events`. It must not change the process: no logging, no signals, no fork.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from supervisor.brokers.base import BrokerEvent, Outgoing


class Producer(ABC):
    """One connection that publishes. It reconnects by itself, also after a refusal, with a growing wait.

    Its events: Connected, Disconnected, Fatal (the broker refuses, and a later attempt follows), Blocked, Unblocked,
    and for each publication one Confirmed or Unpublished. An Unpublished that is `lost` must be published again.
    """

    events: deque[BrokerEvent]

    @abstractmethod
    def start(self) -> None:
        """Connect, and again after each loss, until `close()`."""

    @abstractmethod
    def publish(self, outgoing: Outgoing) -> None:
        """Publish, persistent and mandatory; only between Connected and Disconnected.

        With a `delay_s` the message waits in a delay queue and then goes to the queue `routing_key`, which must exist.
        """

    @abstractmethod
    def flush(self) -> None:
        """Carry out all calls of this pass; called once, at its end."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection and stop reconnecting. Progress needs further reactor passes."""

    @abstractmethod
    def cut(self) -> None:
        """Break the connection, without waiting for the broker."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether `close()` has completed."""
