"""docs/metrics.md, the alerts and the dashboard speak of the metrics there are: names, types, labels, meanings."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.metrics import render
from tests.support.documented import ROOT, documented_status
from tests.support.statuses import typed

EXPOSED = list(text_string_to_metric_families(render(typed(documented_status())).decode()))
SAMPLES = {sample.name for family in EXPOSED for sample in family.samples}
LABELS = {name for family in EXPOSED for sample in family.samples for name in sample.labels}
ALERTS = (ROOT / "etc/prometheus-alerts.yml").read_text()
TESTS = (ROOT / "tests/process/alerts_test.yml").read_text()
DASHBOARD: dict[str, Any] = json.loads((ROOT / "etc/grafana-dashboard.json").read_text())

_METRIC = re.compile(r"\bpreforkd_\w+")
_MATCHED = re.compile(r"[{,]\s*(\w+)\s*(?:=|!)")


def described() -> set[tuple[str, str, frozenset[str], str]]:
    """The rows of docs/metrics.md."""
    rows = [line.strip("| ").split(" | ") for line in _lines("| `preforkd_")]
    return {
        (name.strip("`"), kind, frozenset(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    }


def exposed() -> set[tuple[str, str, frozenset[str], str]]:
    """The same of a real exposition."""
    return {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            frozenset(name for sample in family.samples for name in sample.labels) - {"le"},
            family.documentation,
        )
        for family in EXPOSED
    }


def expressions() -> list[str]:
    """Every query of the dashboard."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    found += [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    return found + [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]


def test_the_page_has_the_metrics_that_are_exposed() -> None:
    assert described() == exposed()


def test_names_follow_the_conventions() -> None:
    for name, kind, _labels, meaning in exposed():
        assert name.startswith("preforkd_")
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert meaning.endswith("."), name


def test_no_label_grows_with_messages_or_processes() -> None:
    per_worker = {family.name for family in EXPOSED for sample in family.samples if "worker" in sample.labels}

    known = {"pool", "kind", "cause", "state", "outcome", "result", "symptom", "worker", "version", "le"}
    assert known >= LABELS, "a label of what? ids, pids, queues and hosts are endless"
    assert per_worker == {"preforkd_worker_resident_memory_bytes", "preforkd_worker_cpu_seconds"}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_the_dashboard_asks_for_metrics_and_labels_there_are(expression: str) -> None:
    assert set(_METRIC.findall(expression)) <= SAMPLES
    assert set(_MATCHED.findall(expression)) <= LABELS | {"instance"}


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    ids = [panel["id"] for panel in panels]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]

    assert DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["uid"] and DASHBOARD["title"]
    assert len(set(ids)) == len(ids) and len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${datasource}"}, "an import must not ask for a data source of its own"


def test_alerts_ask_for_metrics_there_are() -> None:
    asked = set(_METRIC.findall(re.sub(r"#.*", "", ALERTS)))

    assert asked - SAMPLES == set()


def test_every_alert_says_what_to_do_and_where_to_read_on() -> None:
    headings = {
        _anchor(line) for line in (ROOT / "docs/operations.md").read_text().splitlines() if line.startswith("#")
    }
    for rule in ALERTS.split("- alert: ")[1:]:
        name, runbook = rule.split()[0], re.search(r"runbook: docs/operations\.md#(\S+)", rule)
        assert "summary: " in rule and "Do:" in rule and "severity: " in rule, name
        assert runbook and runbook[1] in headings, name


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS))
    fires = set(re.findall(r'exp_samples: .*alertname="(\w+)"', TESTS))
    silent = set(re.findall(r'eval_time: \w+, expr: .*alertname="(\w+)"', TESTS))

    assert alerts == fires == silent


def _lines(beginning: str) -> list[str]:
    return [line for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith(beginning)]


def _anchor(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower())
    return words.strip().replace(" ", "-")
