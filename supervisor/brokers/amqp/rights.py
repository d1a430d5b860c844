"""Which rights a user of RabbitMQ needs for pools, and the command that gives them. Pure.

Runs in the consumer and the command line. https://www.rabbitmq.com/docs/access-control#authorisation
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

import msgspec
import pika

from supervisor.brokers.amqp.errors import Trouble
from supervisor.config.schema import PoolConfig

_DEFAULT_EXCHANGE = "amq.default"


class Account(msgspec.Struct, frozen=True):
    """The user that needs the rights, and the virtual host."""

    user: str
    vhost: str


def account_of(parameters: pika.ConnectionParameters) -> Account:
    """The account of these parameters."""
    return Account(parameters.credentials.username, parameters.virtual_host)


def permissions_command(account: Account, pools: Iterable[PoolConfig]) -> str:
    """The command that gives `account` the rights that `pools` need: their queues with all that belongs to them."""
    pools = list(pools)
    queues = sorted({f"{re.escape(pool.queue)}(\\..*)?" for pool in pools})
    exchanges = sorted({re.escape(binding.exchange) for pool in pools for binding in pool.bindings if pool.declare})
    patterns = (queues, [*queues, re.escape(_DEFAULT_EXCHANGE)], [*queues, *exchanges])
    shown = " ".join(shlex.quote(f"^({'|'.join(pattern)})$") for pattern in patterns)
    return f"rabbitmqctl set_permissions -p {shlex.quote(account.vhost)} {shlex.quote(account.user)} {shown}"


def with_command(trouble: Trouble, account: Account, pools: Iterable[PoolConfig]) -> Trouble:
    """`trouble`, and where it is a missing right the command that gives it."""
    if not (trouble.fatal and trouble.code == ACCESS_REFUSED):
        return trouble
    advice = f"{permissions_command(account, pools)} (it replaces the patterns that the user has: keep those it needs)"
    return msgspec.structs.replace(trouble, reason=f"{trouble.reason}; give it with: {advice}")


ACCESS_REFUSED = 403
