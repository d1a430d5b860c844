"""Incident 1: a slow mail relay blocks the handler beyond the heartbeat, and the same mail goes out again and again.

There, the connection was lost with the handler, the worker left with status 0, that was not logged, and the broker
delivered the unacked message to the next one. Here a real relay counts the mails.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxy import running_proxy
from tests.support.rabbit_daemon import RabbitDaemon, bystander, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.slow_relay import SlowRelay, running_relay
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

PATIENT = 'workers = 1\nprefetch = 5\ntimeout = "60s"\n'


@pytest.fixture
def relay() -> Iterator[SlowRelay]:
    with running_relay() as relay:
        yield relay


def _mail(under_test: RabbitDaemon, relay: SlowRelay, name: str) -> None:
    """Publish a mail and wait until the relay keeps it waiting."""
    under_test.send("mail", message_id=name)
    eventually(lambda: relay.waiting == [name], "the relay has the mail and does not answer")


def test_a_relay_slower_than_the_heartbeat_costs_neither_connection_nor_a_second_mail(
    rabbitmq: RabbitNode, tmp_path: Path, relay: SlowRelay
) -> None:
    with rabbit_daemon(
        tmp_path, rabbitmq, PATIENT, handler="mail", environment={"SMTP_PORT": relay.port}
    ) as under_test:
        before = under_test.lines()
        with bystander(rabbitmq) as given_up:
            _mail(under_test, relay, "verify")
            eventually(given_up, "the broker has given up a client that was silent for so long")
        relay.recover()
        under_test.wait_done("verify")
        eventually(under_test.settled, "the message is acked")

        assert under_test.lines() == before
        assert under_test.events("consumer.disconnected") == []
        assert relay.sent == ["verify"]
        assert under_test.exits() == []


def test_a_mail_under_way_when_the_connection_dies_is_not_sent_again(
    rabbitmq: RabbitNode, tmp_path: Path, relay: SlowRelay
) -> None:
    """The message comes back while its handler still runs: it is settled with that run."""
    with rabbit_daemon(
        tmp_path, rabbitmq, PATIENT, handler="mail", environment={"SMTP_PORT": relay.port}
    ) as under_test:
        _mail(under_test, relay, "verify")
        rabbitmq.close_connections_named("preforkd consumer email")
        under_test.wait_counted(delivered=2)
        relay.recover()
        under_test.wait_done("verify")
        eventually(under_test.settled, "the second delivery is acked with the first run")

        assert relay.sent == ["verify"]
        assert under_test.runs("verify") == [1]
        under_test.wait_counted(done=1, dropped=1, failed=0)


def test_a_mail_finished_while_there_is_no_connection_is_not_sent_again(
    rabbitmq: RabbitNode, tmp_path: Path, relay: SlowRelay
) -> None:
    """The message comes back after its handler has ended: it is acked as a duplicate, also after deaths meanwhile."""
    environment = {"SMTP_PORT": relay.port}
    with (
        running_proxy(rabbitmq.port) as proxy,
        rabbit_daemon(
            tmp_path, rabbitmq, PATIENT, handler="mail", environment=environment, port=proxy.port
        ) as under_test,
    ):
        _mail(under_test, relay, "verify")
        proxy.refuse()
        eventually(under_test.has("consumer.disconnected"), "the connection is lost")
        relay.recover()
        under_test.wait_counted(done=1)
        assert under_test.stop(signal.SIGTERM) == 0
        proxy.admit()
        under_test.start()
        under_test.wait_counted(duplicate=1)
        eventually(under_test.settled, "the message is acked")

        assert relay.sent == ["verify"]
        assert under_test.events("message.duplicate", message_id="verify")


def test_status_0_that_was_not_asked_for_is_its_own_cause_everywhere(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """In the log, in the record, in the table of status; and who asked for the other exits with status 0 is there."""
    with rabbit_daemon(tmp_path, rabbitmq, PATIENT + 'max_attempts = 2\nretry_delays = ["100ms"]') as under_test:
        under_test.send("leave", 0, message_id="stop-all")
        under_test.wait_counted(dead=1)
        lines = under_test.events("worker.exited", cause="unexpected_exit", status=0, message_id="stop-all")
        assert [(line["level"], line["attempt"], line["requested_by"]) for line in lines] == [
            ("warning", 1, ""),
            ("warning", 2, ""),
        ]
        tally = [row for row in under_test.status()["exits"] if row["kind"] == "worker"]
        assert [(row["cause"], row["status"], row["signal"], row["count"]) for row in tally] == [
            ("unexpected_exit", 0, None, 2)
        ]
        table = under_test.cli_ok("status")
        assert any(line.split() == ["email", "worker", "unexpected_exit", "0", "2"] for line in table.splitlines())

        under_test.cli_ok("stop")
        assert under_test.wait() == 0
        clean = under_test.exit(kind="worker", cause="clean_stop")
        assert (clean["status"], clean["requested_by"]) == (0, "preforkd stop")
