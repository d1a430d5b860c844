"""`preforkd pending` on a real daemon: failed messages whose originals never come back are shown and dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from supervisor.config.load import load
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.consumer.settlement.messages import Failure
from supervisor.ledger.base import Row, RowState
from supervisor.ledger.sqlite import SqliteLedger
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

LOST = ("lost-0", "lost-1", "lost-2")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Its ledger has three messages that failed, and its queue has none of them."""
    with make_site(tmp_path) as site:
        site.ok("start")
        site.ok("stop")
        config = load(str(site.config))
        arrivals = Arrivals(config.pools["mail"], config.broker)
        note = msgspec.msgpack.encode(Failure("failed", "ValueError: no\nsecond line", "mail/0", at_s=1.0))
        ledger = SqliteLedger(tmp_path / "state" / "pools" / "mail" / "ledger.db", config.ledger.sync)
        ledger.commit(
            [
                Row(arrivals.key_of(name)[:16] + bytes(8), 1, 1, RowState.DEAD_PENDING, -1, 0, 1.0, name, note)
                for name in LOST
            ],
            {},
        )
        ledger.close()
        site.ok("start")
        yield site


def test_those_that_have_not_come_back_are_listed_and_dropped_by_id(site: Site) -> None:
    lines = site.ok("pending", "list", "mail").splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [[name, "dead_pending", "1"] for name in LOST]
    assert all(line.endswith("ValueError: no") for line in lines[1:])
    assert "failed, and has not come back from mail: its copy cannot be made before it comes" in site.ok(
        "why", "lost-0"
    )

    assert "1 message(s) of pool mail dropped" in site.ok("pending", "drop", "mail", "lost-1")

    left = [json.loads(line)["message_id"] for line in site.ok("pending", "list", "mail", "--json").splitlines()]
    assert left == ["lost-0", "lost-2"]
    eventually(lambda: site.counters().get("gone") == 1, "it is counted")
    assert "has not come back from its queue" in site.ok("why", "lost-1")
    (gone,) = (line for line in site.log_path.read_text().splitlines() if "message.gone" in line)
    assert "lost-1" in gone


def test_dropping_all_asks_first(site: Site) -> None:
    for answer, told in (("n\n", "the answer was no"), ("", "the question had no answer (no more input)")):
        refused = site.cli("pending", "drop", "mail", "--all", stdin=answer)
        assert "Wait no longer for 3 failed message(s) of pool mail?" in refused.stdout
        assert f"nothing was dropped: {told}" in refused.stderr
        assert refused.returncode == 130
    assert "3 message(s)" in site.ok("pending", "drop", "mail", "--all", "--yes")
    assert "there are none in pool mail" in site.ok("pending", "list", "mail")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drop", "mail"), "name the IDs"),
        (("drop", "mail", "lost-0", "--all"), "name the IDs"),
        (("drop", "mail", "other"), "does not wait for a message other"),
        (("list", "post"), "there is no pool 'post'"),
    ],
)
def test_a_wrong_order_says_what_is_wrong_and_drops_nothing(arguments: tuple[str, ...], said: str, site: Site) -> None:
    done = site.cli("pending", *arguments)
    assert done.returncode not in (0, None)
    assert said in done.stderr
    assert len(site.ok("pending", "list", "mail", "--json").splitlines()) == len(LOST)
