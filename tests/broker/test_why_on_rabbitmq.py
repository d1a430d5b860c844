"""`preforkd why` about messages of a RabbitMQ queue: from the ledger, not by taking anything out of a queue."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.rabbit_daemon import rabbit_daemon
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


def test_a_dead_message_is_explained_with_and_without_the_daemon_and_stays_where_it_is(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 1\nmax_attempts = 1") as under_test:
        under_test.send("kill", signal.SIGSEGV, message_id="m")
        under_test.wait_counted(dead=1)
        running = under_test.cli_ok("why", "m")
        assert f"given up; its copy went to {under_test.queue}.dead" in running
        assert "crash (SIGSEGV)" in running
        assert f"preforkd dead retry {under_test.queue} m" in running

        assert under_test.stop() == 0
        stopped = under_test.cli_ok("why", "m")
        assert stopped.splitlines()[:3] == running.splitlines()[:3]
        assert "no daemon runs" in stopped.splitlines()[-1]

        (letter,) = under_test.dead()
        assert not (letter[0].headers or {}).get("x-delivery-count"), "it was not taken out to be looked at"
