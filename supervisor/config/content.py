"""The sections of one parsed file, read into a `Config`. Problems go to the report; reading always goes on.

`load.py` finds and parses the file, and fills in its variables. Files with secrets are read here: the URLs in them
become part of the configuration.
"""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import msgspec

from supervisor.config import schema
from supervisor.config.cross_checks import fitted
from supervisor.config.report import Report, did_you_mean
from supervisor.config.sections import Sections, home_of

SECTIONS = ("daemon", "log", "broker", "ledger", "fleet", "pools", "web", "hooks")


def read(tree: dict[str, Any], source: Path, report: Report, variables: dict[str, str]) -> schema.Config:
    """The configuration in `tree`, whose variables are filled in; `variables`: those that `env_file` adds."""
    for name, value in tree.items():
        if name not in SECTIONS and isinstance(value, dict):
            report.add((name,), "there is no such section", did_you_mean(name, SECTIONS))
        elif name not in SECTIONS:
            report.add((name,), "there is no such key outside of the sections", home_of(name))
    sections = Sections(source.parent, report, daemon_uid(tree))
    pools = sections.table(("pools",), tree.get("pools", {})) or {}
    broker = _read_broker(sections, tree.get("broker", {}))
    return schema.Config(
        source=str(source),
        daemon=sections.read(schema.DaemonConfig, ("daemon",), tree.get("daemon", {})),
        log=sections.read(schema.LogConfig, ("log",), tree.get("log", {})),
        broker=broker,
        ledger=sections.read(schema.LedgerConfig, ("ledger",), tree.get("ledger", {})),
        pools={name: _read_pool(name, table, broker, sections) for name, table in pools.items()},
        web=sections.read(schema.WebConfig, ("web",), tree.get("web", {})),
        hooks=_read_hooks(sections, tree.get("hooks", {})),
        fleet=read_fleet(sections, tree["fleet"], report) if "fleet" in tree else None,
        variables=variables,
    )


def _read_pool(name: str, table: Any, broker: schema.BrokerConfig, sections: Sections) -> schema.PoolConfig:
    pool = sections.read(schema.PoolConfig, ("pools", name), table, name=name)
    if not isinstance(table, dict):
        return pool
    if "max_timeout" not in table:  # its default does not limit a longer timeout
        pool = msgspec.structs.replace(pool, max_timeout_s=max(pool.max_timeout_s, pool.timeout_s))
    return pool if "prefetch" in table else fitted(pool, broker)


def _read_broker(sections: Sections, table: Any) -> schema.BrokerConfig:
    broker = dict(sections.table(("broker",), table) or {})
    tls = sections.read(schema.TlsConfig, ("broker", "tls"), broker.pop("tls", {}))
    urls = sections.urls_of(("broker", "url_file"), "url", broker)
    if urls is not None:
        broker["url"] = urls or list(schema.BrokerConfig().urls)
    return sections.read(schema.BrokerConfig, ("broker",), broker, tls=tls)


def _read_hooks(sections: Sections, table: Any) -> schema.HooksConfig:
    hooks = dict(sections.table(("hooks",), table) or {})
    urls = sections.urls_of(("hooks", "webhook_file"), "webhook", hooks)
    if urls is not None:
        hooks["webhook"] = urls[0] if urls else ""
    return sections.read(schema.HooksConfig, ("hooks",), hooks)


def read_fleet(sections: Sections, table: Any, report: Report) -> schema.FleetConfig:
    """The section [fleet] and the file with its URL; `table`: as parsed, with its variables filled in."""
    here = ("fleet", "url_file")
    found = sections.table(here[:1], table)
    fleet = dict(found or {})
    urls = sections.urls_of(here, "", fleet) or []
    if len(urls) > 1:
        report.add(here, "contains several lines", "write one URL; it may name several hosts: …@one,two/preforkd")
    if urls:
        fleet[here[1]] = urls[0]
    return sections.read(schema.FleetConfig, here[:1], fleet) if found is not None else schema.FleetConfig("", "")


def daemon_uid(tree: dict[str, Any]) -> int | None:
    """The uid of `user` in [daemon]; None where there is none."""
    daemon = tree.get("daemon")
    name = daemon.get("user") if isinstance(daemon, dict) else None
    try:
        return pwd.getpwnam(name).pw_uid if isinstance(name, str) and name else None
    except (KeyError, ValueError):  # no user of that name: the start says so
        return None
