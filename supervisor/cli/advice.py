"""What `preforkd check` says about numbers that are allowed but look wrong together: one table. Pure.

What is impossible is no advice but an error when the file is loaded (`supervisor/config/rules.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec

from supervisor.config.cross_checks import longest_wait_s
from supervisor.config.schema import Config, PoolConfig, TlsConfig
from supervisor.consumer.settlement.delivery_limit import danger
from supervisor.quantities import show_bytes, show_seconds

_QUICK_HEARTBEAT_S, _SLOW_HEARTBEAT_S = 5.0, 60.0


class Advice(msgspec.Struct, frozen=True):
    """A doubt: the key, when it applies (asked about one pool at a time), and what may go wrong."""

    key: str
    applies: Callable[[Config, PoolConfig], object]
    text: Callable[[Config, PoolConfig], str]


def advise(config: Config, memory_bytes: int) -> Iterator[tuple[str, str]]:
    """Pairs of a key's path and a warning. `memory_bytes`: how much memory the machine has."""
    pools = list(config.pools.values())
    for advice in ABOUT_ALL:
        if advice.applies(config, pools[0]):
            yield advice.key, advice.text(config, pools[0])
    for pool in pools:
        for advice in ABOUT_A_POOL:
            if advice.applies(config, pool):
                yield f"pools.{pool.name}.{advice.key}", advice.text(config, pool)
    needed = sum(pool.workers * pool.max_memory_bytes for pool in pools)
    if needed > memory_bytes:
        yield (
            "pools",
            f"all workers at max_memory need {show_bytes(needed)}, this machine has {show_bytes(memory_bytes)}",
        )


def _secure(config: Config) -> bool:
    return any(url.startswith("amqps:") for url in config.broker.urls)


def _consumer_timeout_s(pool: PoolConfig) -> float:
    timeout_ms = pool.queue_arguments.get("x-consumer-timeout")
    return timeout_ms / 1000 if isinstance(timeout_ms, int) else math.inf


ABOUT_ALL = (
    Advice(
        "broker.heartbeat",
        lambda config, _: (
            not config.broker.embedded and not _QUICK_HEARTBEAT_S <= config.broker.heartbeat_s <= _SLOW_HEARTBEAT_S
        ),
        lambda config, _: (
            f"{show_seconds(config.broker.heartbeat_s)}: below 5s a busy machine looks dead, "
            "above 60s a dead broker is noticed late"
        ),
    ),
    Advice(
        "broker.tls",
        lambda config, _: config.broker.tls != TlsConfig() and not _secure(config),
        lambda *_: "no url begins with amqps://, so it is not used",
    ),
    Advice(
        "broker.tls.verify",
        lambda config, _: _secure(config) and not config.broker.tls.verify,
        lambda *_: "any server may pose as the broker and read the password",
    ),
)

ABOUT_A_POOL = (
    Advice(
        "prefetch",
        lambda _, pool: pool.prefetch < pool.workers,
        lambda _, pool: f"{pool.prefetch}: at most that many of {pool.workers} workers have a message at once",
    ),
    Advice(
        "timeout",
        lambda config, pool: pool.timeout_s > config.daemon.stop_timeout_s,
        lambda config, pool: (
            f"{pool.timeout_s:g} s ({show_seconds(pool.timeout_s)}): a stop cuts off runs longer than "
            f"daemon.stop_timeout = {show_seconds(config.daemon.stop_timeout_s)}"
        ),
    ),
    Advice(
        "max_timeout",
        lambda config, pool: not config.broker.embedded and pool.max_timeout_s >= config.broker.ack_timeout_s,
        lambda config, pool: (
            "the broker takes back the message of an extended run after broker.ack_timeout = "
            f"{show_seconds(config.broker.ack_timeout_s)}"
        ),
    ),
    Advice(
        "retry_delays",
        lambda config, pool: max(pool.retry_delays_s) >= config.ledger.keep_s,
        lambda config, pool: (
            f"ledger.keep = {show_seconds(config.ledger.keep_s)} forgets a message before its last retry comes back"
        ),
    ),
    Advice(
        "queue_arguments",
        lambda config, pool: not config.broker.embedded and danger(pool.queue_arguments),
        lambda _, pool: danger(pool.queue_arguments),
    ),
    Advice(
        "queue_arguments",
        lambda _, pool: _consumer_timeout_s(pool) <= longest_wait_s(pool),
        lambda _, pool: (
            f"x-consumer-timeout = {show_seconds(_consumer_timeout_s(pool))}: the last message of a full prefetch may "
            f"take {show_seconds(longest_wait_s(pool))}, and the broker takes it back before"
        ),
    ),
    Advice(
        "bindings",
        lambda config, pool: pool.bindings and config.broker.embedded,
        lambda *_: "the embedded queue has no exchanges; no binding is made",
    ),
    Advice(
        "bindings",
        lambda config, pool: pool.bindings and not pool.declare,
        lambda *_: "with declare = false no binding is made",
    ),
)
