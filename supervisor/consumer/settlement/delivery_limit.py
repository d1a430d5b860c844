"""How near a message is to the limit beyond which a quorum queue drops it. Pure.

A quorum queue counts how often it has had a message back, and says so in the header `x-delivery-count` of the next
delivery. Beyond the limit (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling) it drops the message,
or dead-letters it where the queue has a dead-letter exchange: what was only read ahead when a connection ended counts
as well. A copy begins to count at zero. So a message that has come back too often is worn out: it is saved by a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.brokers.base import Delivery
from supervisor.consumer.settlement.messages import Arrival
from supervisor.link.frames import RunId

DEFAULT_LIMIT = 20
"""Of a quorum queue without a limit of its own, from RabbitMQ 4.0 on."""

WORN_AT_MOST = 2
"""A policy may have set a lower limit, and nothing tells; a copy costs little: half of a high one is not waited for."""

_LIMIT = "x-delivery-limit"
_COUNT = "x-delivery-count"


def limit_of(queue_arguments: Mapping[str, Any]) -> int | None:
    """The limit that the pool's own `queue_arguments` set; None where they set none (or -1: no limit)."""
    limit = queue_arguments.get(_LIMIT)
    return limit if type(limit) is int and limit >= 0 else None


def worn_from(queue_arguments: Mapping[str, Any]) -> int:
    """The count from which a message is to be saved: half of the limit, as the next returns may come in a row.

    At least 1: a new message counts 0, and a copy of it would be no better off. `queue_arguments`: the pool's.
    """
    limit = limit_of(queue_arguments)
    return max(1, min((DEFAULT_LIMIT if limit is None else limit) // 2, WORN_AT_MOST))


def danger(queue_arguments: Mapping[str, Any]) -> str:
    """The risk of the pool's own `queue_arguments`, and the remedy; "" where copies come in time."""
    limit = queue_arguments.get(_LIMIT)
    if type(limit) is not int or limit > 1:
        return ""
    if limit < 0:
        risk = "unlimited from RabbitMQ 4.0 on, but before that a message is dropped the first time it comes back"
    elif limit == 0:
        risk = "the queue drops all delivered messages when a connection ends, and they cannot be saved"
    else:
        risk = (
            "the queue drops a message that comes back twice; only messages that this daemon reads in between are saved"
        )
    return f"{_LIMIT} = {limit}: {risk}; leave the argument out, or give it 20 or more"


def count_of(delivery: Delivery) -> int:
    """How often the queue has had this message back, as it says."""
    headers = delivery.properties.headers
    count = headers.get(_COUNT) if headers else None
    return count if type(count) is int else 0


def is_surplus(arrival: Arrival, saved: set[RunId]) -> bool:
    """Whether a saving copy of this worn message waits in its queue: each loss of a connection would double them.

    `saved`: the runs of which one does. One that is not worn may be that copy: it has come, and is taken out.
    """
    run = RunId(arrival.key, arrival.round, arrival.attempt)
    if not arrival.worn:
        saved.discard(run)
    return run in saved
