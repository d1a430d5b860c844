"""Stopping while the broker is away: handlers finish, no process waits for a broker that does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.master.stop.phases import QUIT_S
from tests.support.proxy import running_proxy
from tests.support.rabbit_daemon import rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@pytest.mark.parametrize("outage", ["refused", "silent"])
def test_a_stop_while_the_broker_is_away_lets_the_handler_finish(
    rabbitmq: RabbitNode, tmp_path: Path, outage: str
) -> None:
    with (
        running_proxy(rabbitmq.port) as proxy,
        rabbit_daemon(tmp_path, rabbitmq, 'timeout = "60s"', port=proxy.port) as under_test,
    ):
        under_test.send("until", "go", message_id="slow")
        under_test.pid_running("slow")
        if outage == "refused":
            proxy.refuse()
            proxy.reset()
            eventually(lambda: under_test.pool()["state"] == "degraded", "the connection is lost")
        else:
            proxy.silence()
        assert under_test.process is not None
        under_test.process.terminate()
        eventually(under_test.has("daemon.stopping"), "the stop has begun")
        under_test.release("go")
        assert under_test.wait(3 * QUIT_S) == 0

        assert under_test.marked("done") == ["slow"]
        assert {exit_["cause"] for exit_ in under_test.exits()} == {"clean_stop"}
        assert under_test.processes() == []
