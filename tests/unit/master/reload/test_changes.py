"""What changed between two configurations, and what that asks for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.config.keys import keys_of
from supervisor.config.schema import (
    Binding,
    BrokerConfig,
    Config,
    DaemonConfig,
    FleetConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
    TlsConfig,
)
from supervisor.errors import ConfigError
from supervisor.master.reload.changes import FIXED, RECONNECT, REGISTERED, Changes, compare

EMAIL, MAIL = PoolConfig("email", "email", "m:f"), PoolConfig("mail", "mail", "m:f")

OTHER: dict[str, Any] = {
    "queue": "other",
    "handler": "m:g",
    "init": "m:i",
    "path": ("/p",),
    "timeout_header": "t",
    "retry_delays_s": (3.0,),
    "on_crash": "park",
    "restart_backoff_s": (1.0, 2.0),
    "restart_intensity": (3, 4.0),
    "missing_id": "dead_letter",
    "id_header": "x-id",
    "transport_headers": ("x-acme-*",),
    "queue_arguments": {"x-queue-type": "classic"},
    "bindings": (Binding("e"),),
    "environment": {"A": "b"},
    "middleware": ("m:Class",),
}
"""Another value for each key that is no number."""


def config(*pools: PoolConfig, **sections: Any) -> Config:
    """A configuration with these pools; the rest is as it is by default, unless given."""
    usual = {"daemon": DaemonConfig(), "log": LogConfig(), "broker": BrokerConfig(), "ledger": LedgerConfig()}
    return Config(source="f", pools={pool.name: pool for pool in pools}, **{**usual, **sections})


def changed(**fields: Any) -> Changes:
    """The changes when the pool `email` has other values."""
    return compare(config(EMAIL, MAIL), config(msgspec.structs.replace(EMAIL, **fields), MAIL))


def test_nothing_changed() -> None:
    assert compare(config(EMAIL), config(EMAIL)) == Changes([], [], {}, {}, frozenset())


def test_pools_come_and_go() -> None:
    found = compare(config(EMAIL), config(MAIL))
    assert (found.added, found.removed, found.changed, found.reconnect) == (["mail"], ["email"], {}, frozenset())


@pytest.mark.parametrize("field", [name for name in PoolConfig.__struct_fields__ if name != "name"])
def test_every_key_is_noticed_and_only_those_of_the_connection_cost_it(field: str) -> None:
    value = getattr(EMAIL, field)
    found = changed(**{field: OTHER[field] if field in OTHER else not value if value in (True, False) else value + 1})
    ((pool, (key,)),) = found.changed.items()
    assert (pool, key) == ("email", field.removesuffix("_s").removesuffix("_bytes"))
    assert found.reconnect == ({"email"} if key in RECONNECT else set())


def test_keys_that_cost_the_connection_exist() -> None:
    assert set(PoolConfig.__struct_fields__) >= RECONNECT
    assert set(DaemonConfig.__struct_fields__) >= set(FIXED)


@pytest.mark.parametrize(
    ("sections", "keys", "reconnect"),
    [
        ({"broker": BrokerConfig(urls=("amqp://h",))}, {"broker": ["url"]}, {"email", "mail"}),
        ({"broker": BrokerConfig(heartbeat_s=5.0)}, {"broker": ["heartbeat"]}, {"email", "mail"}),
        ({"broker": BrokerConfig(tls=TlsConfig(verify=False))}, {"broker": ["tls"]}, {"email", "mail"}),
        ({"broker": BrokerConfig(ack_timeout_s=5.0)}, {"broker": ["ack_timeout"]}, set()),
        ({"ledger": LedgerConfig(sync="normal")}, {"ledger": ["sync"]}, {"email", "mail"}),
        ({"fleet": FleetConfig("u", "prod")}, {"fleet": ["url_file", "name", "lease", "host_wait"]}, {"email", "mail"}),
        ({"log": LogConfig(level="debug")}, {"log": ["level"]}, set()),
        ({"daemon": DaemonConfig(stop_timeout_s=5.0)}, {"daemon": ["stop_timeout"]}, set()),
    ],
)
def test_sections(sections: Any, keys: dict[str, list[str]], reconnect: set[str]) -> None:
    found = compare(config(EMAIL, MAIL), config(EMAIL, MAIL, **sections))
    assert found.sections == keys
    assert set(found.reconnect) == reconnect


@pytest.mark.parametrize(
    ("new", "keys"),
    [
        (FleetConfig("postgresql://h/db", "prod", 90.0), []),
        (FleetConfig("postgresql://other/db", "prod", 90.0), ["url_file"]),
        (FleetConfig("postgresql://h/db", "test", 90.0), ["name"]),
        (FleetConfig("postgresql://h/db", "prod", 60.0), ["lease"]),
        (FleetConfig("postgresql://h/db", "prod", 90.0, 60.0), ["host_wait"]),
        (None, ["url_file", "name", "lease", "host_wait"]),
    ],
)
def test_every_change_of_the_fleet_costs_the_connection(new: FleetConfig | None, keys: list[str]) -> None:
    found = compare(config(EMAIL, fleet=FleetConfig("postgresql://h/db", "prod", 90.0)), config(EMAIL, fleet=new))
    assert found.sections == ({"fleet": keys} if keys else {})
    assert found.reconnect == ({"email"} if keys else set())


@pytest.mark.parametrize("key", FIXED)
def test_what_holds_for_the_daemons_life_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"daemon.{key} = .*cannot change.*preforkd restart"):
        compare(config(EMAIL), config(EMAIL, daemon=msgspec.structs.replace(DaemonConfig(), **{key: "other"})))


def test_facts_show_no_value_and_so_no_secret() -> None:
    new = config(EMAIL, broker=BrokerConfig(urls=("amqp://user:s3cret@h",)))
    assert "s3cret" not in str(compare(config(EMAIL), new).facts())


@pytest.mark.parametrize("key", sorted(REGISTERED))
def test_i3_in_a_fleet_what_the_other_hosts_go_by_is_registered_again(key: str) -> None:
    """With a longer max_timeout than they know they would decide about a message while its run goes on."""
    (field,) = (known.field for known in keys_of(PoolConfig).values() if known.name == key)
    value = OTHER[field] if field in OTHER else getattr(EMAIL, field) + 7
    other = msgspec.structs.replace(EMAIL, **{field: value})
    fleet = FleetConfig("postgresql://h/db", "prod")
    assert compare(config(EMAIL, fleet=fleet), config(other, fleet=fleet)).reconnect == {"email"}
    assert compare(config(EMAIL), config(other)).reconnect == set()
