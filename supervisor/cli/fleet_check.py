"""What `preforkd check` and `preforkd fleet check` say about a fleet's store, with the rights of the daemon's role.

The clocks of server and host are compared only to tell of a difference: no decision is made by them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence

from supervisor.cli.findings import Finding, error, ok, warning
from supervisor.config.schema import Config, FleetConfig, PoolConfig
from supervisor.fleet.address import address
from supervisor.fleet.admin import OLDEST, Facts, Holder, Store, StoreError, opened
from supervisor.fleet.schema import VERSION
from supervisor.fleet.settings import AGREED, settings_hash
from supervisor.quantities import show_seconds
from supervisor.system.clock import wall_s

URL = "fleet.url_file"
_CLOCKS_S = 5.0
_RATES, _REST_S = 1.01, 60.0


def about_fleet(config: Config, fleet: FleetConfig) -> Iterator[Finding]:
    """All that can be said of the store and of the pools in it. It changes nothing."""
    for pool in config.pools.values():
        yield from _about_ack_timeout(config, fleet, pool)
    try:
        place = address(fleet.url)
    except ValueError as problem:
        yield error(URL, str(problem), os.EX_CONFIG)
        return
    if not place.verified:
        text = "another machine can pose as the store and read the password: add sslmode=verify-full to the URL"
        yield warning(URL, text)
    try:
        with opened(fleet.url) as store:
            yield from _about_store(store, config, fleet, place.shown)
    except StoreError as problem:
        yield error(URL, str(problem))


def _about_ack_timeout(config: Config, fleet: FleetConfig, pool: PoolConfig) -> Iterator[Finding]:
    """A message that another host runs is held here, unsettled, until that host settles it or is given up."""
    longest_s = fleet.lease_s + _RATES * pool.longest_run_s + _REST_S
    if longest_s >= config.broker.ack_timeout_s:
        text = (
            f"{show_seconds(pool.max_timeout_s)}: a message of another host may be held for {show_seconds(longest_s)}, "
            f"and the broker takes it back after broker.ack_timeout = {show_seconds(config.broker.ack_timeout_s)}; "
            "lower max_timeout or fleet.lease, or raise ack_timeout and the broker's consumer_timeout"
        )
        yield warning(f"pools.{pool.name}.max_timeout", text)


def _about_store(store: Store, config: Config, fleet: FleetConfig, shown: str) -> Iterator[Finding]:
    facts = store.facts()
    yield from _about_server(facts, shown)
    problem = _schema_problem(facts, fleet)
    if problem is not None:
        yield problem
        return
    yield ok("fleet.name", f"{fleet.name}, schema {facts.schema}, as {facts.user}")
    yield from _about_settings(store.holders(), config)


def _about_server(facts: Facts, shown: str) -> Iterator[Finding]:
    if facts.major < OLDEST:
        yield error(URL, f"the server is PostgreSQL {facts.server}: the store of a fleet needs {OLDEST} or later")
    elif facts.settings.get("server_encoding") != "UTF8":
        yield error(URL, f"the database has the encoding {facts.settings.get('server_encoding')}: it must be UTF8")
    else:
        yield ok(URL, f"{shown}, PostgreSQL {facts.server}")
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if facts.settings.get(name) == "off":
            text = f"the server has {name} = off: a crash there may lose what it has confirmed, and messages run twice"
            yield warning(URL, text)
    away_s = facts.clock_s - wall_s()
    if abs(away_s) >= _CLOCKS_S:
        ahead = "ahead of" if away_s > 0 else "behind"
        shown_s = show_seconds(round(abs(away_s)))
        yield warning(URL, f"the server's clock is {shown_s} {ahead} this host's: nothing is decided by it")


def _schema_problem(facts: Facts, fleet: FleetConfig) -> Finding | None:
    if facts.denied:
        text = f"{facts.user} may not call {', '.join(facts.denied)}: `preforkd fleet init --role {facts.user}`"
        return error(URL, text)
    if facts.schema is None:
        return error(URL, "the database has no schema preforkd: `preforkd fleet init` makes it")
    if facts.schema < VERSION:
        text = f"the schema has version {facts.schema}, this preforkd needs {VERSION}: `preforkd fleet upgrade`"
        return error(URL, text)
    if facts.fleet != fleet.name:
        text = f"{fleet.name}: the database is the store of the fleet {facts.fleet}; correct the name or the URL"
        return error("fleet.name", text, os.EX_CONFIG)
    return None


def _about_settings(holders: Sequence[Holder], config: Config) -> Iterator[Finding]:
    """Whether the hosts of a queue have the same rules for its messages."""
    for pool in config.pools.values():
        ours = settings_hash(pool, config.ledger)
        others = {
            holder.host
            for holder in holders
            if holder.queue == pool.queue and holder.settings != ours and holder.host != socket.gethostname()
        }
        if others:
            text = (
                f"{', '.join(sorted(others))} run(s) queue {pool.queue} with other settings: {AGREED} must be "
                "the same on all hosts"
            )
            yield warning(f"pools.{pool.name}", text)
