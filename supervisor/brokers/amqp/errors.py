"""Errors of RabbitMQ as texts for users, whether they are permanent, and the command that gives missing rights.

Pure; runs in the consumer and the command line. Reply codes: https://www.rabbitmq.com/amqp-0-9-1-reference#constants,
rights: https://www.rabbitmq.com/docs/access-control#authorisation
No text here ever holds a password: pika's errors carry the broker's words, not the URL.
"""

from __future__ import annotations

import re
import shlex
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import msgspec
import pika
import pika.adapters.utils.connection_workflow as workflow
import pika.exceptions

from supervisor.brokers.amqp.tls import tls_trouble
from supervisor.config.schema import PoolConfig

ACCESS_REFUSED = 403


class Trouble(msgspec.Struct, frozen=True):
    """Why a connection, channel or request failed. `fatal`: the broker refuses permanently.

    `code`: AMQP's reply code where the broker closed a connection or channel, else 0. `taken`: the queue has another
    consumer, and is to have one.
    """

    reason: str
    fatal: bool = False
    code: int = 0
    taken: bool = False

    @property
    def is_crash(self) -> bool:
        """Whether the broker ended a connection because of an error: a bad frame, or a failure of its own (5xx)."""
        return self.code >= _ERRORS_FROM


_ERRORS_FROM = 500
"""Reply codes from here on close the connection (AMQP 0-9-1, 1.2: hard errors)."""


class QueueTaken(Exception):
    """A subscription gave way to another consumer of its queue."""


def taken(queue: str) -> Trouble:
    """The trouble of a pool with `exclusive = true` whose queue has another consumer."""
    return Trouble(f"queue {queue!r} has a consumer already, and exclusive = true", taken=True)


_CHECK_LOGIN = "check user and password in [broker] url"
_NO_PLAIN = (
    "the broker takes no login by user and password (PLAIN), perhaps certificates only (EXTERNAL): preforkd logs in by "
    "PLAIN, so add it to the broker's auth_mechanisms"
)
_CHECK_VHOST = "check the virtual host in [broker] url, and that the user may use it (rabbitmqctl set_permissions)"

_REFUSALS = (
    (r"limit \(\d+\) is reached|connection limit", "the broker's limit of connections is reached", False),
    (r"maximum allowed .*limit of", "the broker's limit of channels is reached", False),
    (r"in exclusive use|RESOURCE_LOCKED", "the queue is in use by an exclusive consumer or connection", False),
    (
        r"not supported by stream",
        "the queue is a stream, which cannot be settled message by message: use a quorum queue",
        True,
    ),
    (r"delivery acknowledgement", "a message was not settled within the broker's consumer_timeout", False),
    (r"ACCESS_REFUSED - Login", f"the broker refuses the login: {_CHECK_LOGIN}", True),
    (r"NOT_ALLOWED - (vhost|access to vhost)", f"no access to the virtual host: {_CHECK_VHOST}", True),
    (r"ACCESS_REFUSED", "the user lacks a right (rabbitmqctl set_permissions)", True),
    (r"no exchange '", "an exchange that is named in the configuration does not exist: declare it first", True),
)
"""(pattern in the broker's text, meaning, whether it is permanent); the first match counts."""

_FINAL_CODES = frozenset({403, 530, 540})


def explain(error: BaseException | None) -> Trouble:
    """The trouble behind `error`, which ended a connection or channel."""
    error = _root(error)
    if isinstance(error, QueueTaken):
        return taken(str(error))
    if isinstance(error, pika.exceptions.ConnectionClosed | pika.exceptions.ChannelClosed):
        words = f"{error.reply_code} {error.reply_text}"
        return _explain_words(words, error.reply_code in _FINAL_CODES, error.reply_code)
    if isinstance(error, pika.exceptions.AuthenticationError):  # no guess: the broker has listed what it takes
        return Trouble(_NO_PLAIN, fatal=True)
    if (found := tls_trouble(_words(error))) is not None:
        meaning, final = found
        return Trouble(f"{meaning} ({_words(error)})", final)
    if isinstance(error, _WHILE_OPENING):
        return _explain_words(_words(error), fatal=False, code=0)
    for kinds, text in _KINDS:
        if isinstance(error, kinds):
            return Trouble(f"{text} ({_words(error)})")
    return Trouble(_words(error))


def _explain_words(text: str, fatal: bool, code: int) -> Trouble:
    for pattern, meaning, final in _REFUSALS:
        if re.search(pattern, text):
            return Trouble(f"{meaning} (the broker says: {text})", final, code)
    return Trouble(f"the broker says: {text}", fatal, code)


def _root(error: BaseException | None) -> BaseException | None:
    """The innermost error: pika wraps it in up to four layers."""
    while (inner := _inner(error)) is not None:
        error = inner
    return error


def _inner(error: Any) -> Any:
    if isinstance(error, workflow.AMQPConnectionWorkflowFailed):
        return error.exceptions[-1]
    if isinstance(error, workflow.AMQPConnectorPhaseErrorBase):
        return error.exception
    if isinstance(error, workflow.AMQPConnectorException | pika.exceptions.AMQPConnectionError):
        return next((argument for argument in error.args if isinstance(argument, BaseException)), None)
    return None


def _words(error: BaseException | None) -> str:
    text = str(error) if error is not None else ""
    return text or type(error).__name__


_WHILE_OPENING = (
    pika.exceptions.ProbableAuthenticationError,
    pika.exceptions.AuthenticationError,
    pika.exceptions.ProbableAccessDeniedError,
)
"""pika guesses these from when a connection ended, also where the broker was killed: only words prove a refusal."""

_KINDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (pika.exceptions.IncompatibleProtocolError,),
        "closed before a broker spoke: a load balancer with no broker behind it, no AMQP 0-9-1 port, or one for TLS",
    ),
    ((ssl.SSLCertVerificationError,), "the broker's certificate is not trusted: check [broker.tls] ca_file"),
    ((ssl.SSLError,), "TLS failed: check that the port speaks TLS, and [broker.tls]"),
    ((socket.gaierror,), "the host name cannot be resolved"),
    ((ConnectionRefusedError,), "nothing listens there"),
    ((pika.exceptions.AMQPHeartbeatTimeout,), "the broker was silent for too long"),
    ((workflow.AMQPConnectorStackTimeout, TimeoutError), "the broker did not answer in time"),
    ((pika.exceptions.StreamLostError,), "the connection was lost"),
)


def permissions_command(account: pika.ConnectionParameters, pools: Iterable[PoolConfig]) -> str:
    """The command that gives the user of `account` the rights that `pools` need: their queues with all that belongs
    to them.
    """
    pools = list(pools)
    queues = sorted({f"{re.escape(pool.queue)}(\\..*)?" for pool in pools})
    exchanges = sorted({re.escape(binding.exchange) for pool in pools for binding in pool.bindings if pool.declare})
    patterns = (queues, [*queues, re.escape("amq.default")], [*queues, *exchanges])
    shown = " ".join(shlex.quote(f"^({'|'.join(pattern)})$") for pattern in patterns)
    vhost, user = account.virtual_host, account.credentials.username
    return f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)} {shown}"


def with_command(trouble: Trouble, account: pika.ConnectionParameters, pool: PoolConfig) -> Trouble:
    """`trouble`, and where it is a missing right the command that gives it."""
    if not (trouble.fatal and trouble.code == ACCESS_REFUSED):
        return trouble
    advice = f"{permissions_command(account, [pool])} (it replaces the patterns that the user has: keep those it needs)"
    return msgspec.structs.replace(trouble, reason=f"{trouble.reason}; give it with: {advice}")
