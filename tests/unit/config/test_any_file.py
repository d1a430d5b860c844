"""Whatever a file says, it loads or is refused with problems: never a crash, never a secret in what is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.config.keys import keys_of
from supervisor.config.load import interpret
from supervisor.config.report import Report, did_you_mean, show_place
from supervisor.config.schema import (
    BrokerConfig,
    Config,
    DaemonConfig,
    FleetConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
    TlsConfig,
    WebConfig,
)
from supervisor.errors import ConfigError, Problem

TIMES = 40 if os.environ.get("PREFORKD_SOAK") else 1

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "daemon": DaemonConfig,
    "log": LogConfig,
    "broker": BrokerConfig,
    "ledger": LedgerConfig,
    "fleet": FleetConfig,
    "email": PoolConfig,
    "web": WebConfig,
    "hooks": HooksConfig,
    "tls": TlsConfig,
}
WORDS = sorted(
    {"url_file", "webhook_file", "pools", *SECTIONS, *(name for kind in SECTIONS.values() for name in keys_of(kind))}
)

scalars = (
    st.none().map(lambda _: False)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.sampled_from(["", "30s", "1GiB", "a:b", "retry", "${HOME}", "${", "$${X}", "amqp://h", "embedded:", "~", "-"])
    | st.text(max_size=20)
)
keys = st.sampled_from(WORDS) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
sections = st.dictionaries(keys, values, max_size=6)
trees = st.fixed_dictionaries(
    {},
    optional={
        "daemon": values | sections,
        "log": values | sections,
        "broker": values | sections,
        "ledger": values | sections,
        "fleet": values | sections,
        "web": values | sections,
        "hooks": values | sections,
        "pools": values | st.dictionaries(st.sampled_from(["email", "a b", "sms"]), values | sections, max_size=3),
        "more": values,
    },
)


@settings(max_examples=50 * TIMES)
@given(trees)
def test_any_file_loads_or_is_refused_with_problems(tree: dict[str, Any]) -> None:
    try:
        config = interpret(tree, Path("/etc/preforkd/preforkd.toml"), {"HOME": "/home/ann"})
    except ConfigError as error:
        assert error.problems
        assert all(problem.path and problem.reason for problem in error.problems)
    else:
        assert isinstance(config, Config)
        assert config.pools


@settings(max_examples=50 * TIMES)
@given(trees)
def test_any_file_shows_no_secret(tree: dict[str, Any]) -> None:
    tree["broker"] = {"url": "wrong://user:geheim@host", "heartbeat": tree.get("broker", 0)}
    with pytest.raises(ConfigError) as caught:
        interpret(tree, Path("/etc/preforkd/preforkd.toml"), {"HOME": "geheim"})
    assert "geheim" not in str(caught.value)


# ---- how problems are shown ---------------------------------------------------------------------------------------


def test_a_place_reads_like_toml() -> None:
    assert show_place(("pools", "email", "bindings", 0, "exchange")) == "pools.email.bindings[0].exchange"
    assert show_place(("pools", "a b", "x.y")) == 'pools."a b"."x.y"'


def test_problems_come_in_the_order_of_the_file_missing_keys_last() -> None:
    report = Report({"b": {"y": 1, "x": [1, 2]}, "a": 3})
    for place in (("a",), ("b", "missing"), ("b", "x", 1), ("b", "x", 0), ("b", "y"), ("new",)):
        report.add(place, "wrong")
    assert [problem.path for problem in report.problems] == ["b.y", "b.x[0]", "b.x[1]", "b.missing", "a", "new"]


def test_a_place_is_wrong_when_something_within_it_is() -> None:
    report = Report({})
    report.add(("pools", "email", "bindings", 0), "wrong")
    assert report.wrong(("pools", "email"))
    assert report.wrong(("pools", "email", "bindings", 0))
    assert not report.wrong(("pools", "email", "bindings", 1))
    assert not report.wrong(("pools", "email", "bindings", 0, "exchange"))
    assert report.wrong_itself(("pools", "email", "bindings", 0))
    assert not report.wrong_itself(("pools", "email"))


def test_a_default_is_shown_as_one_and_a_long_value_is_cut() -> None:
    report = Report({"long": "x" * 500})
    report.add(("missing",), "wrong", default="5m")
    report.add(("long",), "wrong", "try less")
    long, missing = report.problems
    assert missing == Problem("missing", "5m (default)", "wrong")
    assert long.value == '"' + "x" * 79 + "…"
    assert str(long).endswith("wrong (try less)")


@pytest.mark.parametrize(
    ("word", "hint"), [("timout", 'did you mean "timeout"?'), ("TIMEOUT", 'did you mean "timeout"?'), ("zzz", "")]
)
def test_only_a_near_word_is_suggested(word: str, hint: str) -> None:
    assert did_you_mean(word, ["timeout", "workers"]) == hint
