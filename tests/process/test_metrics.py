"""Metrics of a real daemon, as `preforkd metrics` prints them, and the alerts: judged by Prometheus's own promtool."""

from __future__ import annotations

import builtins
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.cli import main
from tests.support.daemon import Daemon, daemon
from tests.support.source_tree import ROOT
from tests.support.tools import tool
from tests.support.waiting import eventually

_SETTINGS = 'workers = 2\nmax_attempts = 1\nretry_delays = ["100ms"]\nrestart_backoff = ["10ms", "20ms"]'


def promtool(*arguments: str, stdin: str = "") -> str:
    """Run it; what it says. It must find nothing wrong."""
    command = [tool("promtool"), *arguments]
    done = subprocess.run(command, input=stdin, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has run five messages since its consumer was killed: three well, one that failed, one that took
    its worker along. One more had been done before. That consumer has lost its connection once."""
    with daemon(tmp_path_factory.mktemp("busy"), _SETTINGS) as under_test:
        under_test.send("nothing", message_id="before")
        eventually(lambda: _ended(under_test) == (1, 0), "the first is done")
        _kill_consumer(under_test)
        _cut_connection(under_test)
        for name in ("a", "b", "c"):
            under_test.send("nothing", message_id=name)
        under_test.send("no such deed", message_id="bad")
        under_test.send("leave_hard", 3, message_id="crash")
        eventually(lambda: _ended(under_test) == (4, 2), "all have come to their end")
        eventually(lambda: all(worker["state"] == "idle" for worker in under_test.pool()["workers"]), "all are idle")
        yield under_test


def _ended(under_test: Daemon) -> tuple[int, int]:
    counters = under_test.pool()["counters"]
    return counters["done"], counters["dead"]


def _kill_consumer(under_test: Daemon) -> None:
    former = under_test.pool()["consumer"]["pid"]
    os.kill(former, signal.SIGKILL)
    eventually(lambda: under_test.pool()["consumer"]["pid"] not in (None, former), "there is another")


def _cut_connection(under_test: Daemon) -> None:
    def connections() -> Any:
        return under_test.pool()["measures"].get("connections")

    eventually(lambda: connections() == {"opened": 1, "lost": 0, "failed": 0}, "it is connected")
    under_test.ask("cut_connection", pool="email")
    eventually(lambda: connections() == {"opened": 2, "lost": 1, "failed": 0}, "it is connected again")


def printed(under_test: Daemon, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `preforkd metrics` prints."""
    assert main(["--config", str(under_test.config_path), "metrics", *arguments]) == 0
    return capsys.readouterr().out


def read(text: str, name: str, **labels: str) -> float:
    """One sample."""
    families = text_string_to_metric_families(text)
    found = [s.value for family in families for s in family.samples if (s.name, s.labels) == (name, labels)]
    assert len(found) == 1, (name, labels, found)
    return float(found[0])


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("preforkd_messages_total", {"outcome": "done"}, 3),
        ("preforkd_messages_total", {"outcome": "dead"}, 2),
        ("preforkd_messages_total", {"outcome": "duplicate"}, 0),
        ("preforkd_deliveries_total", {}, 5),
        ("preforkd_failed_runs_total", {}, 2),
        ("preforkd_handler_duration_seconds_count", {}, 4),  # the run that took its worker along was not timed
        ("preforkd_publishes_total", {"result": "confirmed"}, 2),
        ("preforkd_publishes_total", {"result": "lost"}, 0),
        ("preforkd_publishes_unconfirmed", {}, 0),
        ("preforkd_exits_total", {"kind": "worker", "cause": "crash"}, 1),
        ("preforkd_restarts_total", {"kind": "worker"}, 1),
        ("preforkd_holds_total", {}, 0),
        ("preforkd_workers", {"state": "idle"}, 2),
        ("preforkd_messages_in_flight", {}, 0),
        ("preforkd_connection_state", {"state": "connected"}, 1),
        ("preforkd_connections_opened_total", {}, 2),
        ("preforkd_connections_lost_total", {}, 1),
        ("preforkd_connection_attempts_failed_total", {}, 0),
        ("preforkd_service_up", {"kind": "consumer"}, 1),
        ("preforkd_pool_state", {"state": "ok"}, 1),
    ],
)
def test_a_scrape_says_what_has_happened(
    busy: Daemon, capsys: pytest.CaptureFixture[str], name: str, labels: dict[str, str], value: int
) -> None:
    assert read(printed(busy, capsys), name, pool="email", **labels) == value


def test_a_scrape_has_sizes_and_times_that_can_be_true(busy: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(busy, capsys)

    worker, master = {"pool": "email", "worker": "email/0"}, {"pool": "", "kind": "master"}
    assert 5 << 20 < read(text, "preforkd_worker_resident_memory_bytes", **worker) < 500 << 20
    assert 5 << 20 < read(text, "preforkd_service_resident_memory_bytes", **master) < 500 << 20
    assert 0 < read(text, "preforkd_service_cpu_seconds_total", **master) < 60
    commits = read(text, "preforkd_ledger_commit_duration_seconds_count", pool="email")
    assert 5 <= commits <= 20
    assert 0 < read(text, "preforkd_ledger_commit_duration_seconds_sum", pool="email") < 60
    assert read(text, "preforkd_ledger_size_bytes", pool="email") > 4096
    assert read(text, "preforkd_ledger_rows_limit", pool="email") == 5_000_000


def test_ledger_and_queue_are_looked_at_every_few_seconds(busy: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    eventually(lambda: busy.pool()["measures"]["ledger"]["rows"] == 6, "the ledger was weighed again")
    eventually(lambda: busy.pool()["depth"]["ready"] == 0, "the broker was asked again")
    text = printed(busy, capsys)

    assert read(text, "preforkd_ledger_rows", pool="email") == 6
    assert read(text, "preforkd_queue_messages_ready", pool="email") == 0
    assert read(text, "preforkd_queue_consumers", pool="email") == 1


def test_promtool_accepts_the_scrape_that_the_page_shows(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs/web.md").read_text(), re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(snippet)

    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(tmp_path / "prometheus.yml"))


def test_promtool_finds_nothing_wrong_with_a_scrape(busy: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert promtool("check", "metrics", stdin=printed(busy, capsys)) == ""


def test_a_file_is_replaced_in_one_step(busy: Daemon, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "preforkd.prom"
    path.write_text("the former one\n")
    with path.open() as former:
        assert printed(busy, capsys, "--file", str(path)) == ""
        assert former.read() == "the former one\n"
    assert read(path.read_text(), "preforkd_deliveries_total", pool="email") == 5
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_a_file_that_cannot_be_written_is_named(busy: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(busy.config_path), "metrics", "--file", "/proc/x.prom"]) == 1
    assert "/proc/x.prom: cannot be written" in capsys.readouterr().err


def test_without_a_daemon_there_is_nothing_to_print(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as absent:
        assert main(["--config", str(absent.config_path), "metrics"]) == 1
    assert "preforkd is not running" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "supervisor.metrics":
            raise ModuleNotFoundError("no such package", name="prometheus_client")
        return whole(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["metrics"]) == 1
    assert "pip install '.[metrics]'" in capsys.readouterr().err


def test_counts_begin_again_with_the_consumer_and_the_totals_go_on(
    busy: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(busy, capsys)

    assert busy.pool()["counters"]["done"] == 4
    assert read(text, "preforkd_messages_total", pool="email", outcome="done") == 3
    assert read(text, "preforkd_exits_total", pool="email", kind="consumer", cause="killed") == 1
    assert read(text, "preforkd_restarts_total", pool="email", kind="consumer") == 1


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "etc/prometheus-alerts.yml"), ("test", "rules", "tests/process/alerts_test.yml")]
)
def test_promtool_finds_nothing_wrong_with_the_alerts(arguments: Sequence[str]) -> None:
    assert "SUCCESS" in promtool(*arguments)
