"""Asks the rules for the values of one section, alone and together: one table a section. Pure.

A rule is asked only when none of its keys is wrong already; its problem is shown at its first key. Rules across
sections are in `cross_checks.py`; what needs the machine or the broker to answer belongs to `preforkd check`.
"""

from __future__ import annotations

import re

import msgspec

from supervisor.config import schema
from supervisor.config.address_rules import bad_store_url, bad_urls
from supervisor.config.keys import keys_of
from supervisor.config.pool_rules import BINDING_RULES, POOL_RULES
from supervisor.config.report import Place, Report
from supervisor.config.rule_kinds import Rule, above_zero, at_least, given, one_of, when
from supervisor.config.sidecar_rules import HOOKS_RULES, WEB_RULES
from supervisor.quantities import show_seconds

_HEARTBEAT_S = (1.0, 300.0)
_LEASE_S = (30.0, 3600.0)
_FLEET_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def apply_rules(section: msgspec.Struct, place: Place, report: Report) -> None:
    """Report every rule of the section's table that it breaks."""
    if report.wrong_itself(place):
        return
    keys = keys_of(type(section))
    for rule in RULES.get(type(section), ()):
        if any(report.wrong((*place, key)) for key in rule.keys):
            continue
        if reason := rule.judge(section):
            key = keys[rule.keys[0]]
            value = getattr(section, key.field)
            hint = rule.hint if isinstance(rule.hint, str) else rule.hint(section)
            default = key.show(value) if value == key.default else ""
            report.add((*place, key.name), reason, hint, default)


def _heartbeat(broker: schema.BrokerConfig) -> str:
    least, most = _HEARTBEAT_S
    if least <= broker.heartbeat_s <= most and broker.heartbeat_s == int(broker.heartbeat_s):
        return ""
    return f"must be whole seconds from {show_seconds(least)} to {show_seconds(most)}"


def _lease(fleet: schema.FleetConfig) -> str:
    least, most = _LEASE_S
    return "" if least <= fleet.lease_s <= most else f"must be from {show_seconds(least)} to {show_seconds(most)}"


def _fleet_name(fleet: schema.FleetConfig) -> str:
    return "" if _FLEET_NAME.fullmatch(fleet.name) else "must be 1 to 63 ASCII letters, digits, dots, - and _"


RULES: dict[type[msgspec.Struct], tuple[Rule, ...]] = {
    schema.DaemonConfig: (
        given("state_dir"),
        given("runtime_dir"),
        Rule(("group", "user"), when(lambda daemon: daemon.group and not daemon.user, "needs a user, too")),
    ),
    schema.LogConfig: (
        one_of("level", "debug", "info", "warning", "error"),
        one_of("format", "auto", "json", "console"),
        given("file"),
    ),
    schema.BrokerConfig: (
        Rule(("url",), bad_urls),
        Rule(("heartbeat",), _heartbeat),
        above_zero("blocked_timeout"),
        above_zero("ack_timeout"),
    ),
    schema.TlsConfig: (
        Rule(
            ("cert_file", "key_file"),
            when(lambda tls: bool(tls.cert_file) != bool(tls.key_file), "go together with key_file"),
            "give both or none",
        ),
    ),
    schema.LedgerConfig: (
        one_of("sync", "full", "normal"),
        above_zero("keep"),
        at_least("keep_max", 1),
        one_of("dedupe", "keep", "redelivery"),
    ),
    schema.FleetConfig: (
        Rule(("url_file",), bad_store_url),
        Rule(("name",), _fleet_name),
        Rule(("lease",), _lease),
    ),
    schema.WebConfig: WEB_RULES,
    schema.HooksConfig: HOOKS_RULES,
    schema.Binding: BINDING_RULES,
    schema.PoolConfig: POOL_RULES,
}
