"""Messages whose time is over, in a whole daemon: what an operator sees of them, and that nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers import open_admin
from supervisor.brokers.copy_headers import EXPIRES
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from tests.support.site import Site, make_site
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        told = f"sh -c 'cat >> {tmp_path}/told.txt; echo >> {tmp_path}/told.txt'"
        site.config.write_text(f"{site.config.read_text()}max_wait = '10m'\n[hooks]\non_dead = \"{told}\"\n")
        site.ok("start")
        yield site


def publish(site: Site, message_id: str, order: str = "nothing", queue: str = "mail", **properties: Any) -> None:
    """Send one message to a pool."""
    with open_admin(BrokerConfig(), str(site.folder / "state")) as admin:
        message = Publication("", queue, Properties(message_id=message_id, **properties), order.encode())
        assert admin.publish([message], 10, lambda total: None).sent == 1


def test_what_waits_too_long_is_a_dead_letter_with_both_times_and_runs_when_it_is_retried(site: Site) -> None:
    os.mkfifo(site.folder / "gate")
    publish(site, "first", "wait gate")
    site.wait_until_running("first")
    now = int(time.time())
    publish(site, "old", timestamp=now - 720)
    publish(site, "in-time", timestamp=now, headers={EXPIRES: now + 900})
    publish(site, "unreadable", timestamp=now, headers={EXPIRES: 60})
    publish(site, "late", timestamp=now, headers={EXPIRES: now + 2})
    site.wait_for_counter("dead", 1)  # on arrival
    eventually(lambda: time.time() > now + 2, "the time of what waits is over")
    assert site.counters()["dead"] == 1
    (site.folder / "gate").write_text("go")
    site.wait_for_counter("dead", 2)
    site.wait_for_counter("done", 3)
    assert site.runs() == ["first 1 1", "in-time 1 1", "unreadable 1 1"]
    assert site.counters()["expired"] == 2

    listed = [line.split() for line in site.ok("dead", "list", "mail").splitlines()]
    assert [line[:3] for line in listed if "expired" in line] == [["old", "expired", "0"], ["late", "expired", "0"]]
    said = site.ok("why", "old")
    assert "ago; max_wait is 10m" in said
    assert "its time was over before a worker could begin it" in said
    assert "x-preforkd-expires is 20" in site.ok("why", "late")
    logged = [json.loads(line) for line in site.log_path.read_text().splitlines()]
    dead = [line for line in logged if line["event"] == "message.dead"]
    assert [(line["message_id"], line["cause"]) for line in dead] == [("old", "expired"), ("late", "expired")]
    assert [line["message_id"] for line in logged if line["event"] == "message.expiry_unreadable"] == ["unreadable"]
    told = site.folder / "told.txt"
    eventually(lambda: told.exists() and told.read_text().count("}\n") == 2, "on_dead is told")
    facts = [json.loads(line) for line in told.read_text().splitlines() if line]
    assert [(fact["cause"], fact["attempts"]) for fact in facts] == [("expired", 0)] * 2
    assert 'preforkd_expired_messages_total{pool="mail"} 2.0' in site.ok("metrics")

    site.ok("dead", "retry", "mail", "--all")
    site.wait_for_counter("done", 5)
    assert sorted(site.runs()[3:]) == ["late 2 1", "old 2 1"]


def test_the_example_sends_no_code_that_is_too_old(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "etc/examples/expiry", tmp_path, dirs_exist_ok=True)
    with make_site(tmp_path, config=False) as site:
        site.ok("start")
        publish(site, "old", "ada 1", "codes", timestamp=int(time.time()) - 400)
        site.ok("publish", "codes", stdin="ada 2\n")
        site.wait_for_pool_counter("codes", "done", 1)
        site.wait_for_pool_counter("codes", "dead", 1)
        assert "expired" in site.ok("dead", "list", "codes")
        log = site.log_path.read_text()
    assert ("to ada: your code is 2" in log, "to ada: your code is 1" in log) == (True, False)
