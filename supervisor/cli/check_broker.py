"""What `preforkd check` finds out about the broker and the queues. It changes no queue."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from supervisor.brokers import open_admin
from supervisor.brokers.admin import BrokerAdmin
from supervisor.cli.findings import Finding, error, ok, warning
from supervisor.config.schema import Config, PoolConfig
from supervisor.control.client import ControlClient, NotRunning
from supervisor.errors import BrokerRefused, ControlError, PreforkdError

_OTHERS = (
    "queue {queue!r} has {others} consumer(s) beside this daemon: end them, or set exclusive = true; no message runs "
    "twice only while there is no other consumer"
)


def about_broker(config: Config) -> Iterator[Finding]:
    """The broker and each pool's queue on it; no queue is made or changed."""
    if config.broker.embedded and not os.access(_embedded_queue(config), os.F_OK):
        yield ok("broker.url", f"the embedded queue will be made in {config.daemon.state_dir}")
        return
    try:
        with open_admin(config.broker, config.daemon.state_dir) as admin:
            consumed = _consumed_here(config)
            for pool in config.pools.values():
                yield from _about_queue(pool, admin, list(config.pools.values()), pool.queue in consumed)
    except PreforkdError as trouble:
        yield error("broker.url", str(trouble), trouble.exit_code)


def _consumed_here(config: Config) -> set[str]:
    """The queues that the running daemon of this configuration consumes; none where it does not answer."""
    try:
        with ControlClient(Path(config.daemon.runtime_dir)) as daemon:
            pools = daemon.status().pools.values()
    except (NotRunning, ControlError):
        return set()
    return {pool.queue for pool in pools if pool.consumer.state == "consuming"}


def _embedded_queue(config: Config) -> Path:
    from supervisor.brokers.embedded.store import FILE_NAME  # loads SQLite, which only this queue needs

    return Path(config.daemon.state_dir, FILE_NAME)


def _about_queue(
    pool: PoolConfig, admin: BrokerAdmin, pools: Sequence[PoolConfig], is_consumed: bool
) -> Iterator[Finding]:
    """`is_consumed`: whether the running daemon of this configuration is a consumer of the queue."""
    key = f"pools.{pool.name}.queue"
    try:
        facts = admin.facts(pool.queue)
        depth = admin.depth(pool.queue)
        review = admin.review(pool, pools)
    except BrokerRefused as refusal:
        yield error(key, str(refusal))
        return
    for text in review.errors:
        yield error(key, text)
    for remark in (*facts.remarks, *review.remarks):
        yield warning(key, remark)
    if depth and (others := depth.consumers - is_consumed) > 0:
        yield warning(key, _OTHERS.format(queue=pool.queue, others=others))
    if depth:
        text = f"{pool.queue} on {facts.server}: {depth.ready} ready, {depth.consumers} consumer(s)"
        yield ok(key, text)
    elif pool.declare:
        yield ok(key, f"{pool.queue} is not on {facts.server} yet; it will be declared")
    else:
        yield error(key, f"{pool.queue} is not on {facts.server}; make it, or set declare = true", os.EX_CONFIG)
