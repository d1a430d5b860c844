"""Trace context in a real daemon: through a worker, a retry, a publication, and the worker after that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def spans(under_test: Daemon) -> dict[tuple[str, int], dict[str, Any]]:
    """What was exported, by message id and attempt."""
    found = [json.loads(line) for line in under_test.marked("spans")]
    return {
        (span["attributes"]["messaging.message.id"], span["attributes"]["preforkd.attempt"]): span for span in found
    }


def test_a_trace_goes_on_through_retries_and_publications(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as under_test:
        under_test.configure('workers = 1\ninit = "tracing_handlers:configure"\nretry_delays = ["100ms"]\n')
        text = under_test.config_path.read_text().replace("daemon_handlers:run", "tracing_handlers:run")
        under_test.config_path.write_text(text)
        under_test.start()
        properties = Properties(message_id="m", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        with open_admin(BrokerConfig(), str(under_test.state_dir)) as admin:
            admin.publish([Publication("", "email", properties, b"parent")], 10, lambda total: None)
        eventually(lambda: len(spans(under_test)) == 3, "three runs were exported")
        first, second, child = (spans(under_test)[run] for run in (("m", 1), ("m", 2), ("m-child", 1)))
        assert {span["context"]["trace_id"] for span in (first, second, child)} == {f"0x{TRACE}"}
        assert first["parent_id"] == second["parent_id"] == f"0x{PARENT}", "a retry copy keeps the context"
        assert child["parent_id"] == second["context"]["span_id"]
        assert (first["status"]["status_code"], second["status"]["status_code"]) == ("ERROR", "UNSET")
        assert second["name"] == "process email"
