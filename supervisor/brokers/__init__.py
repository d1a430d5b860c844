"""Brokers: one interface (`base.py`), two implementations (`embedded/`, `amqp/`), one conformance suite over both.

The functions import on purpose: a process with the embedded queue never loads pika (about 15 MB of resident memory),
and one with RabbitMQ never loads SQLite for a queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.brokers.admin import BrokerAdmin
    from supervisor.brokers.base import Broker
    from supervisor.brokers.producer import Producer
    from supervisor.config.schema import BrokerConfig, PoolConfig
    from supervisor.system.reactor import Reactor


def open_broker(pool: PoolConfig, broker: BrokerConfig, state_dir: str, reactor: Reactor) -> Broker:
    """The broker of `[broker] url`, for one pool's consumer; nothing is opened before its `start()`."""
    if broker.embedded:
        from supervisor.brokers.embedded.broker import EmbeddedBroker

        return EmbeddedBroker(pool, state_dir, reactor)
    from supervisor.brokers.amqp import load_pika

    load_pika()
    from supervisor.brokers.amqp.broker import AmqpBroker

    return AmqpBroker(pool, broker, state_dir, reactor)


def open_admin(broker: BrokerConfig, state_dir: str) -> BrokerAdmin:
    """The broker of `[broker] url`, for the command line.

    Raises BrokerRefused or BrokerUnavailable if it cannot be opened.
    """
    if broker.embedded:
        from supervisor.brokers.embedded.admin import EmbeddedAdmin

        return EmbeddedAdmin(state_dir)
    from supervisor.brokers.amqp.admin import AmqpAdmin

    return AmqpAdmin(broker)


def open_producer(broker: BrokerConfig, name: str, state_dir: str, reactor: Reactor) -> Producer:
    """The broker for a client in a user's process, under this `name`; nothing is opened before its `start()`.

    pika is imported as it is: the process may use it for itself.
    """
    if broker.embedded:
        from pathlib import Path

        from supervisor.brokers.embedded.producer import EmbeddedProducer

        return EmbeddedProducer(Path(state_dir), reactor)
    from supervisor.brokers.amqp.producer import AmqpProducer

    return AmqpProducer(broker, name, reactor)
