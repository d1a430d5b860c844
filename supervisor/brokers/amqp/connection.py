"""One connection to RabbitMQ that reconnects: one host of the list per attempt, exponential back-off with jitter.

Runs in the consumer, the command line and a client's thread, on a Reactor of theirs. pika recovers nothing by itself,
and in a list of hosts an unresolvable first name would keep it from ever trying the others, so each attempt gets
exactly one host.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
import pika
import pika.exceptions

from supervisor.brokers.amqp import tables
from supervisor.brokers.amqp.errors import Trouble, explain
from supervisor.brokers.amqp.pika_check import receiving_way
from supervisor.brokers.amqp.tls import tls_context
from supervisor.config.schema import BrokerConfig
from supervisor.errors import BrokerRefused
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor, Timer

_QUICK_S = 0.1
_FIRST_S, _CAP_S = 1.0, 30.0
_STEADY_S = 10.0
"""A connection that lasted so long resets the back-off: the next loss starts with a quick attempt."""

_SERVED_S = 1.0
"""So has one that did for so long what it is for; less than that, and a loss at once after each success would be
followed by the next attempt at once, many times a second."""

_OPEN_TIMEOUT_S = 15.0
_SILENCE_HEARTBEATS = 1.5
"""RabbitMQ sends something every half heartbeat; pika alone would wait up to 2 x (heartbeat + 5 s)."""

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}


class BrokerHost(msgspec.Struct, frozen=True):
    """One host of the list: how to reach it, and its name as shown to users (no secrets)."""

    host: str
    parameters: pika.ConnectionParameters


def silence_pika() -> None:
    """Leave out what pika logs: it returns the same as errors. Only for processes of preforkd."""
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def targets(config: BrokerConfig, connection_name: str, user_timeout_s: float) -> list[BrokerHost]:
    """The hosts of `[broker] url`, in their order.

    `user_timeout_s` is how long written bytes may stay unacknowledged by the peer's kernel (TCP_USER_TIMEOUT).
    Raises BrokerRefused when a URL or a TLS file cannot be used.
    """
    tables.install()
    return [_target(url, config, connection_name, user_timeout_s) for url in config.urls]


def _target(url: str, config: BrokerConfig, connection_name: str, user_timeout_s: float) -> BrokerHost:
    shown = _shown(url)
    try:
        if urlsplit(url).scheme not in ("amqp", "amqps"):
            raise ValueError("it must begin with amqp:// or amqps://")
        parameters = pika.URLParameters(url)
        if urlsplit(url).scheme == "amqps":
            parameters.ssl_options = pika.SSLOptions(tls_context(config.tls), parameters.host)
    except (ValueError, TypeError, OSError) as error:
        raise BrokerRefused(f"[broker] url {shown}: {error}; check the URL and the files of [broker.tls]") from error
    parameters.heartbeat = max(1, round(config.heartbeat_s))
    parameters.connection_attempts = 1
    parameters.blocked_connection_timeout = None  # publications have deadlines of their own
    parameters.socket_timeout = parameters.stack_timeout = _OPEN_TIMEOUT_S
    parameters.tcp_options = {**_KEEPALIVE, "TCP_USER_TIMEOUT": round(user_timeout_s * 1000)}
    parameters.client_properties = {"connection_name": connection_name, "product": "preforkd"}
    return BrokerHost(shown, parameters)


def _shown(url: str) -> str:
    """Scheme, host, port and virtual host of a URL."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}{parts.path}"
    except ValueError:
        return "(not a URL)"


class Backoff:
    """Delays before attempts: one quick, then exponential from 1 s to 30 s, each jittered by a quarter."""

    def __init__(self) -> None:
        self._failures = 0
        self._up_since_s = self._serves_since_s = 0.0

    def next_s(self, cap_s: float = float("inf")) -> float:
        """The delay before the next attempt, in seconds, `cap_s` at most."""
        exponent = min(self._failures - 1, 10)
        delay_s = min(cap_s, _CAP_S, _FIRST_S * 2**exponent) if self._failures else _QUICK_S
        self._failures += 1
        return delay_s * random.uniform(0.75, 1.0)

    def up(self, now_s: float) -> None:
        """The attempt worked. `now_s`, here and below: CLOCK_MONOTONIC."""
        self._up_since_s, self._serves_since_s = now_s, 0.0

    def serves(self, now_s: float) -> None:
        """The connection serves its purpose from now on."""
        self._serves_since_s = self._serves_since_s or now_s

    def down(self, now_s: float) -> None:
        """The connection ended, if it was up: the next attempt is quick where it had lasted or served long enough."""
        if not self._up_since_s:
            return
        served_s = now_s - self._serves_since_s if self._serves_since_s else 0.0
        if now_s - self._up_since_s >= _STEADY_S or served_s >= _SERVED_S:
            self._failures = 0
        self._up_since_s = 0.0


class Dialer:
    """Keeps one connection up until it is closed or refused permanently.

    `on_up` is called with the open connection; `on_down` when it was lost or failed, with the delay of the next attempt
    (there is none where the trouble is fatal). `final_when_open`: whether a refusal is final also when it ends a
    connection that was open; else only one that is met while a connection opens is.
    """

    def __init__(
        self,
        reactor: Reactor,
        on_up: Callable[[pika.SelectConnection], object],
        on_down: Callable[[Trouble, float], object],
        final_when_open: bool = True,
    ) -> None:
        self.connection: pika.SelectConnection | None = None
        self.opened = 0
        self.host = ""
        self.parameters = pika.ConnectionParameters()
        self._reactor = reactor
        self._targets: list[BrokerHost] = []
        self._on_up = on_up
        self._on_down = on_down
        self._final_when_open = final_when_open
        self._backoff = Backoff()
        self._attempts = 0
        self._retry: Timer | None = None
        self._watch: Timer | None = None
        self._received_bytes = 0
        self._heard_s = 0.0
        self._closing = False
        self._cutting = False

    def dial(self, targets: list[BrokerHost]) -> None:
        """Try the first of these hosts, then one after the other."""
        self._targets = targets
        self._dial()

    def _dial(self) -> None:
        self._retry = None
        self._cutting = False
        target = self._targets[self._attempts % len(self._targets)]
        self._attempts += 1
        self.host, self.parameters = target.host, target.parameters
        self.connection = receiving_way().connection(
            target.parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_gone,
            on_close_callback=self._on_gone,
            custom_ioloop=self._reactor,
        )

    def serves(self) -> None:
        """The connection serves its purpose from now on: a later loss is no failed attempt."""
        self._backoff.serves(monotonic_s())

    def cut(self, reason: str) -> None:
        """Drop the connection as a network fault would, also while it opens.

        pika offers no public way, and its `close()` of a connection that is opening fails (1.4.4).
        """
        if self.connection is not None and not self._cutting:
            self._cutting = True
            self.connection._terminate_stream(pika.exceptions.StreamLostError(reason))

    def close(self) -> None:
        """Close the connection and stop dialing. `closed` once the broker has answered, or after `cut`."""
        self._closing = True
        if self._retry is not None:
            self._reactor.remove_timeout(self._retry)
            self._retry = None
        if self.connection is not None and self.connection.is_open:
            self.connection.close()
        elif self.connection is not None and not self.connection.is_closing:
            self.cut("closed while it was opening")

    @property
    def closed(self) -> bool:
        """Whether `close()` was called and has completed."""
        return self._closing and self.connection is None

    @property
    def silent_s(self) -> float:
        """Seconds without a byte from the broker, at the resolution of the checks; 0 unless connected."""
        if self.connection is None or not self._heard_s:
            return 0.0
        if self.connection.bytes_received != self._received_bytes:
            self._received_bytes = self.connection.bytes_received
            self._heard_s = monotonic_s()
        return monotonic_s() - self._heard_s

    def _look_for_silence(self) -> None:
        heartbeat_s = self._targets[0].parameters.heartbeat
        silent_s = self.silent_s
        if silent_s >= _SILENCE_HEARTBEATS * heartbeat_s:
            self.cut(f"nothing heard from the broker for {silent_s:.0f} s")
        self._watch = self._reactor.call_later(heartbeat_s / 4, self._look_for_silence)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        self.opened += 1
        self._heard_s = monotonic_s()
        self._backoff.up(self._heard_s)
        self._look_for_silence()
        self._on_up(connection)

    def _on_gone(self, connection: pika.SelectConnection, error: BaseException) -> None:
        self.connection = None
        if self._watch is not None:
            self._reactor.remove_timeout(self._watch)
        trouble = explain(error)
        if self._heard_s and not self._final_when_open:
            trouble = msgspec.structs.replace(trouble, fatal=False)
        self._heard_s = 0.0
        self._backoff.down(monotonic_s())
        retry_in_s = self._backoff.next_s()
        if not self._closing and not trouble.fatal:
            self._retry = self._reactor.call_later(retry_in_s, self._dial)
        self._on_down(trouble, retry_in_s)
