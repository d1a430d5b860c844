"""What `preforkd check` says about numbers that are allowed but look wrong together. Pure.

What is impossible is no advice but an error when the file is loaded (`supervisor/config/rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from supervisor.config.cross_checks import longest_wait_s
from supervisor.config.schema import BrokerConfig, Config, PoolConfig, TlsConfig
from supervisor.consumer.settlement.delivery_limit import danger
from supervisor.quantities import show_bytes, show_limit, show_seconds
from supervisor.system.memory import MACHINE, Room

_QUICK_HEARTBEAT_S, _SLOW_HEARTBEAT_S = 5.0, 60.0


_MASTER_BYTES, _POOL_BYTES = 16 * 1024**2, 40 * 1024**2
"""About what the master takes, and forkserver and consumer of a pool, without user code (benchmarks/README.md, PSS)."""


def advise(config: Config, rooms: Sequence[Room]) -> Iterator[tuple[str, str]]:
    """Pairs of a key's path and a warning. `rooms`: the memory of the machine, and limits of cgroups."""
    yield from _about_broker(config.broker)
    pools = list(config.pools.values())
    for pool in pools:
        for key, text in _about_pool(config, pool):
            yield f"pools.{pool.name}.{key}", text
    yield from _about_memory(pools, min(rooms, key=lambda room: room.limit_bytes))


def _about_memory(pools: Sequence[PoolConfig], room: Room) -> Iterator[tuple[str, str]]:
    """Whether the workers may take more than there is. `room`: the tightest limit."""
    limit, limited = room.limit_bytes, room.of != MACHINE
    shown = f"{room.of} has {show_bytes(limit)}"
    own = _MASTER_BYTES + _POOL_BYTES * len(pools)
    needed = sum(pool.workers * pool.max_memory_bytes for pool in pools)
    if needed + own > limit:
        figures = " + ".join(f"{pool.workers} x {show_bytes(pool.max_memory_bytes)}" for pool in pools)
        yield (
            "pools",
            f"all workers at max_memory need {show_bytes(needed)} ({figures}), and preforkd's own processes about "
            f"{show_bytes(own)}; {shown}: lower workers or max_memory, or give it more memory",
        )
    for pool in pools:
        here = f"pools.{pool.name}"
        if pool.kill_memory_bytes > limit:
            text = (
                f"{show_bytes(pool.kill_memory_bytes)}: {shown}, so the kernel kills first, and chooses which process"
            )
            yield f"{here}.kill_memory", text
        if limited and not pool.max_memory_bytes and not pool.kill_memory_bytes:
            yield (
                f"{here}.max_memory",
                f"off, like kill_memory: nothing but the kernel keeps a worker below what {shown}",
            )


def _about_broker(broker: BrokerConfig) -> Iterator[tuple[str, str]]:
    secure = any(url.startswith("amqps:") for url in broker.urls)
    if not broker.embedded and not _QUICK_HEARTBEAT_S <= broker.heartbeat_s <= _SLOW_HEARTBEAT_S:
        why = "below 5s a busy machine looks dead, above 60s a dead broker is noticed late"
        yield "broker.heartbeat", f"{show_seconds(broker.heartbeat_s)}: {why}"
    if broker.tls != TlsConfig() and not secure:
        yield "broker.tls", "no url begins with amqps://, so it is not used"
    if secure and not broker.tls.verify:
        yield "broker.tls.verify", "any server may pose as the broker and read the password"


def _about_pool(config: Config, pool: PoolConfig) -> Iterator[tuple[str, str]]:
    embedded, keep_s, stop_timeout_s = config.broker.embedded, config.ledger.keep_s, config.daemon.stop_timeout_s
    if pool.prefetch < pool.workers:
        yield "prefetch", f"{pool.prefetch}: at most that many of {pool.workers} workers have a message at once"
    if pool.timeout_s > stop_timeout_s:
        limit = f"daemon.stop_timeout = {show_seconds(stop_timeout_s)}"
        yield "timeout", f"{show_limit(pool.timeout_s)}: a stop cuts off runs longer than {limit}"
    if not embedded and pool.max_timeout_s >= config.broker.ack_timeout_s:
        limit = f"broker.ack_timeout = {show_seconds(config.broker.ack_timeout_s)}"
        yield "max_timeout", f"the broker takes back the message of an extended run after {limit}"
    if max(pool.retry_delays_s) >= keep_s:
        text = f"ledger.keep = {show_seconds(keep_s)} forgets a message before its last retry comes back"
        yield "retry_delays", text
    yield from _about_queue_arguments(pool, embedded)
    if pool.bindings and embedded:
        yield "bindings", "the embedded queue has no exchanges; no binding is made"
    if pool.bindings and not pool.declare:
        yield "bindings", "with declare = false no binding is made"


def _about_queue_arguments(pool: PoolConfig, embedded: bool) -> Iterator[tuple[str, str]]:
    if not embedded and (text := danger(pool.queue_arguments)):
        yield "queue_arguments", text
    timeout_ms, longest_s = pool.queue_arguments.get("x-consumer-timeout"), longest_wait_s(pool)
    if isinstance(timeout_ms, int) and timeout_ms / 1000 <= longest_s:
        yield (
            "queue_arguments",
            f"x-consumer-timeout = {show_seconds(timeout_ms / 1000)}: the last message of a full prefetch may take "
            f"{show_seconds(longest_s)}, and the broker takes it back before",
        )
