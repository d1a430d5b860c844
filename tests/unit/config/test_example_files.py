"""The shipped examples are true: every key is in etc/preforkd.toml, with the default that the schema gives it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.config.keys import keys_of
from supervisor.config.load import interpret, load
from supervisor.config.schema import (
    BrokerConfig,
    DaemonConfig,
    FleetConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
    TlsConfig,
    WebConfig,
)

ROOT = Path(__file__).parents[3]
FULL = ROOT / "etc" / "preforkd.toml"
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "daemon": DaemonConfig,
    "log": LogConfig,
    "broker": BrokerConfig,
    "broker.tls": TlsConfig,
    "ledger": LedgerConfig,
    "fleet": FleetConfig,
    "web": WebConfig,
    "hooks": HooksConfig,
    "pools.email": PoolConfig,
}
NO_KEYS = {"broker": {"tls"}, "pools.email": {"name"}}
BESIDE_THE_SCHEMA = {"broker": {"url_file"}, "hooks": {"webhook_file"}}

CASES = [
    (section, name)
    for section, kind in SECTIONS.items()
    for name in keys_of(kind)
    if name not in NO_KEYS.get(section, ())
]


def shown() -> dict[str, Any]:
    """The full example with its section [fleet], which is a comment there: the embedded queue has no fleet."""
    before, begin, rest = FULL.read_text().partition("# [fleet]")
    section, end, after = (begin + rest).partition("\n\n")
    return tomllib.loads(before + re.sub("^# ", "", section, flags=re.MULTILINE) + end + after)


def section_of(tree: dict[str, Any], path: str) -> dict[str, Any]:
    for step in path.split("."):
        tree = tree[step]
    return tree


@pytest.mark.parametrize(("section", "name"), CASES)
def test_every_key_is_shown_with_its_default(section: str, name: str) -> None:
    key = keys_of(SECTIONS[section])[name]
    written = section_of(shown(), section)[name]
    if key.required:
        assert written
    elif name == "environment":
        assert written == key.default
    elif name == "bindings":
        assert written == list(key.default)
    else:
        assert key.read(written) == key.default


@pytest.mark.parametrize("section", SECTIONS)
def test_no_key_is_shown_that_does_not_exist(section: str) -> None:
    written = section_of(shown(), section)
    known = keys_of(SECTIONS[section]).keys() - NO_KEYS.get(section, set()) | BESIDE_THE_SCHEMA.get(section, set())
    assert {name for name in written if name != "tls"} == known


def test_the_full_example_differs_from_the_defaults_in_nothing() -> None:
    config = interpret(tomllib.loads(FULL.read_text()), Path("/etc/preforkd/preforkd.toml"), {})
    assert config.pools == {"email": PoolConfig("email", "email", "myapp.email:send")}
    assert (config.daemon, config.log, config.ledger) == (DaemonConfig(), LogConfig(), LedgerConfig())
    assert (config.broker, config.web, config.hooks) == (BrokerConfig(), WebConfig(), HooksConfig())


def test_the_minimal_example_loads() -> None:
    assert list(load(str(ROOT / "etc" / "preforkd.minimal.toml")).pools) == ["email"]


@pytest.mark.parametrize(("section", "name"), [*CASES, ("broker", "url_file"), ("hooks", "webhook_file")])
def test_every_key_is_explained_in_the_documentation(section: str, name: str) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    heading = f"## [{section.replace('email', 'NAME')}]"
    assert heading in page
    chapter = page.split(heading, 1)[1].split("\n## ", 1)[0]
    assert f"| `{name}` |" in chapter
