"""Rules between sections: pools sharing a queue, times against the broker's, names against path lengths. Pure."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import msgspec

from supervisor.config.report import Report
from supervisor.config.schema import BrokerConfig, Config, DaemonConfig, PoolConfig
from supervisor.quantities import show_limit, show_seconds

_POOL_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MEANT_AS_MS = 1000
"""From here on a plain number of a timeout may have been meant as milliseconds."""
_CONTROL = "control"
"""The name of the control socket, beside which each pool has a socket of its name."""
_MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7) is 108 bytes, its end included


def apply_cross_checks(config: Config, report: Report) -> None:
    """Report what is impossible between sections."""
    _some_pools(config, report)
    for pool in config.pools.values():
        _pool_name(pool, report)
        _before_ack_timeout(pool, config.broker, report)
    _queues_not_shared(config, report)
    _fit_for_a_fleet(config, report)
    _socket_paths(config.daemon, list(config.pools), report)


def longest_wait_s(pool: PoolConfig) -> float:
    """The longest time until the last message of a full prefetch window is settled, if each run takes `timeout`."""
    return math.ceil(pool.prefetch / pool.workers) * pool.timeout_s


def fitted(pool: PoolConfig, broker: BrokerConfig) -> PoolConfig:
    """A pool without a configured prefetch, with the default or as much as `broker.ack_timeout` allows."""
    if broker.embedded or pool.timeout_s <= 0:
        return pool
    most = _rounds(pool, broker) * pool.workers
    return msgspec.structs.replace(pool, prefetch=min(pool.prefetch, most)) if most > 0 else pool


def _rounds(pool: PoolConfig, broker: BrokerConfig) -> int:
    """The number of messages that one worker may run, each for `timeout`, before the broker takes the last one back."""
    return math.ceil(broker.ack_timeout_s / pool.timeout_s) - 1


def _some_pools(config: Config, report: Report) -> None:
    if not config.pools and not report.wrong(("pools",)):
        hint = 'add [pools.NAME] with at least queue = "…" and handler = "module:function"'
        report.add(("pools",), "there is no pool", hint)


def _pool_name(pool: PoolConfig, report: Report) -> None:
    if not _POOL_NAME.fullmatch(pool.name):
        report.add(("pools", pool.name), "a pool's name may contain letters, digits, _ and - only")
    if pool.name == _CONTROL:
        report.add(
            ("pools", pool.name), f"the socket {_CONTROL}.sock is the daemon's own", "give the pool another name"
        )


def _before_ack_timeout(pool: PoolConfig, broker: BrokerConfig, report: Report) -> None:
    here = ("pools", pool.name)
    keys = ((*here, "prefetch"), (*here, "workers"), (*here, "timeout"), ("broker", "ack_timeout"))
    if broker.embedded or any(report.wrong(key) for key in (*keys, ("broker", "url"))):
        return
    wait_s = longest_wait_s(pool)
    if wait_s < broker.ack_timeout_s:
        return
    rounds = _rounds(pool, broker)
    broker_limit = f"ack_timeout = {show_seconds(broker.ack_timeout_s)}"
    raise_it = "raise the broker's consumer_timeout and broker.ack_timeout"
    if not rounds:  # no number of workers or messages helps
        reason = (
            f"one run may take {show_limit(pool.timeout_s)}, but the broker takes back messages that are not settled "
            f"within {broker_limit}"
        )
        report.add(keys[2], reason, f"{_lower_timeout(pool, report)}, or {raise_it}", show_seconds(pool.timeout_s))
        return
    reason = (
        f"with {pool.workers} worker(s) at {show_limit(pool.timeout_s)} each, the last message may take "
        f"{show_seconds(wait_s)}, but the broker takes back messages that are not settled within {broker_limit}"
    )
    hint = f"lower prefetch to {rounds * pool.workers} or less, or lower timeout, or {raise_it}"
    report.add(keys[0], reason, hint, str(pool.prefetch))


def _lower_timeout(pool: PoolConfig, report: Report) -> str:
    """What to do about a too long timeout; a plain number may have been meant as milliseconds."""
    milliseconds = report.value(("pools", pool.name, "timeout"))
    if not isinstance(milliseconds, int) or milliseconds < _MEANT_AS_MS:
        return "lower timeout"
    return f'lower timeout (a number is seconds; for milliseconds write "{milliseconds}ms")'


def _queues_not_shared(config: Config, report: Report) -> None:
    owners: dict[str, str] = {}
    for pool in config.pools.values():
        owner = owners.setdefault(pool.queue, pool.name)
        place = ("pools", pool.name, "queue")
        if owner != pool.name and not report.wrong(place):
            hint = "give each pool its own queue, or one pool more workers"
            report.add(place, f"pools.{owner} has this queue already", hint)


def _fit_for_a_fleet(config: Config, report: Report) -> None:
    """A fleet shares a queue between hosts: what rests on being its only consumer does not go with it."""
    if config.fleet is None:
        return
    if config.broker.embedded and not report.wrong(("broker", "url")) and not report.wrong(("broker", "url_file")):
        reason = "a fleet shares the queues of a RabbitMQ, and the embedded queue is this host's alone"
        report.add(("fleet",), reason, "set broker.url or broker.url_file, or remove [fleet]")
    if config.ledger.dedupe == "redelivery":
        reason = "in a fleet a message that another host has returned looks like one that was sent again on purpose"
        report.add(("ledger", "dedupe"), reason, 'dedupe = "keep", or remove [fleet]')
    for pool in config.pools.values():
        if pool.exclusive:
            reason = "it keeps the other hosts of the fleet from the queue"
            report.add(("pools", pool.name, "exclusive"), reason, "exclusive = false, or remove [fleet]")


def _socket_paths(daemon: DaemonConfig, pools: list[str], report: Report) -> None:
    place = ("daemon", "runtime_dir")
    if report.wrong(place):
        return
    longest = max((_CONTROL, *pools), key=lambda name: len(os.fsencode(name)))
    path = Path(daemon.runtime_dir, f"{longest}.sock")
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        reason = f"the socket {path} has a longer path than the {_MAX_SOCKET_PATH_BYTES} bytes that Linux allows"
        hint = "choose a shorter runtime_dir" + ("" if longest == _CONTROL else f", or a shorter name than {longest}")
        report.add(place, reason, hint, daemon.runtime_dir)
