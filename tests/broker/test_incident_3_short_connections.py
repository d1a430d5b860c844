"""Incident 3: a connection or channel per message drowned the broker's queue, and no log told that nothing flowed.

Counted is what the broker itself says it has opened. PREFORKD_SOAK=1 crashes 1,000 workers instead of 200.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers.amqp import questions
from supervisor.config.schema import BrokerConfig
from supervisor.consumer import session
from supervisor.consumer.observe import health
from supervisor.system.clock import monotonic_s
from tests.support.brokers import a_pool
from tests.support.hand_turned import HandTurned
from tests.support.proxy import running_proxy
from tests.support.rabbit_daemon import RabbitDaemon, churn, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

CRASHES = 1000 if os.environ.get("PREFORKD_SOAK") == "1" else 200
RESTLESS = 'workers = 4\nmax_attempts = 1\nrestart_backoff = ["10ms", "20ms"]\nrestart_intensity = [10000, "1s"]\n'


@contextmanager
def _nothing_opened(under_test: RabbitDaemon) -> Iterator[None]:
    """No connection or channel is opened meanwhile, and those of the pool stay the same."""
    before, lines = churn(under_test.node), under_test.lines()
    yield
    after = churn(under_test.node)
    opened = (after.connections_opened, after.channels_opened)
    assert opened == (before.connections_opened, before.channels_opened)
    assert under_test.lines() == lines


# ---- connections and channels are long-lived ------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_hundreds_of_worker_crashes_open_no_connection_and_no_channel(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, RESTLESS) as under_test:
        under_test.lines()
        under_test.send_all(under_test.order("leave_hard", 70, message_id=f"m{n}") for n in range(CRASHES))
        with _nothing_opened(under_test):
            under_test.wait_counted(dead=CRASHES, timeout_s=500)
        assert len(under_test.exits(cause="crash", status=70)) == CRASHES


def test_all_that_a_pool_publishes_shares_one_channel(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    pool = 'workers = 2\nmax_attempts = 2\nretry_delays = ["100ms"]\n'
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        results = f"{under_test.queue}.results"
        with rabbitmq.channel() as channel:
            channel.queue_declare(results, durable=True)
        under_test.send_all(
            order
            for n in range(20)
            for order in (
                under_test.order("fail_first", message_id=f"again-{n}"),
                under_test.order("reject", message_id=f"reject-{n}"),
                under_test.order("publish", results, 5, message_id=f"publish-{n}"),
            )
        )
        with _nothing_opened(under_test):
            under_test.wait_counted(done=40, retried=20, dead=20)
        assert [wire.channels for wire in under_test.wires() if "publisher" in wire.client] == [1]
        assert rabbitmq.depth(results) == 100


def test_the_publish_command_uses_one_channel_and_does_not_wait_for_each_confirm(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    """Far from the broker, one message at a time would take a tenth of a second each."""
    with (
        running_proxy(rabbitmq.port) as proxy,
        rabbit_daemon(tmp_path, rabbitmq, start=False, port=proxy.port) as under_test,
    ):
        with rabbitmq.channel() as channel:
            channel.queue_declare(under_test.queue, durable=True)
        proxy.delay_s = 0.05
        one_by_one_s = 500 * 2 * proxy.delay_s
        before, began_s = churn(rabbitmq), monotonic_s()
        under_test.cli_ok("publish", under_test.queue, "--count", "500", stdin="hello\n")
        after = churn(rabbitmq)
        assert monotonic_s() - began_s < one_by_one_s / 2
        assert after.connections_opened - before.connections_opened <= 2
        assert after.channels_opened - before.channels_opened <= 3, (
            "one to ask for the queue, one to look into it, one to publish"
        )
        assert rabbitmq.depth(under_test.queue) == 500


def test_a_crash_loop_is_slowed_down_and_held_and_never_reaches_the_broker(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    """The other storm, of a broker's outage, is in incident 2."""
    with rabbit_daemon(
        tmp_path, rabbitmq, "workers = 1\nmax_attempts = 1\nrestart_intensity = [4, '60s']"
    ) as under_test:
        under_test.lines()
        under_test.send_all(under_test.order("leave_hard", 70, message_id=f"m{n}") for n in range(50))
        with _nothing_opened(under_test):
            eventually(under_test.has("pool.held"), "the pool is held")
        deaths = under_test.exits(kind="worker")
        assert [death["cause"] for death in deaths] == ["crash"] * 5
        waits_s = [death["restart_in_s"] for death in deaths]
        assert waits_s[0] == 0.0
        assert waits_s == sorted(waits_s)
        assert waits_s[-1] == 60.0


# ---- the symptom is noticed -----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of half a minute."""
    monkeypatch.setattr(session, "PROBE_INTERVAL_S", 0.2)
    monkeypatch.setattr(health, "STARVED_AFTER_S", 0.5)
    monkeypatch.setattr(questions, "TIMEOUT_S", 0.5)


@pytest.fixture
def consumer(rabbitmq: RabbitNode, tmp_path: Path, impatient: None) -> Iterator[Callable[..., HandTurned]]:
    """Makes consumers on the node that end with the test, and so do their queues."""
    made: list[HandTurned] = []

    def make(**arguments: Any) -> HandTurned:
        pool = a_pool(queue_arguments={"x-queue-type": "classic", **arguments})
        made.append(HandTurned(tmp_path, pool, BrokerConfig(urls=(rabbitmq.url,))))
        return made[-1]

    yield make
    for turned in made:
        turned.close()
    with rabbitmq.channel() as channel:
        for turned in made:
            for name in ("", ".dead", ".parked", ".retry.250"):
                channel.queue_delete(turned.pool.queue + name)


def test_a_consumer_that_gets_nothing_of_what_is_ready_is_starved(
    rabbitmq: RabbitNode, consumer: Callable[..., HandTurned], caplog: pytest.LogCaptureFixture
) -> None:
    """Subscribed, messages ready, none delivered: here because another consumer is the single active one."""
    turned = consumer(**{"x-single-active-consumer": True})
    with rabbitmq.channel() as channel:
        channel.queue_declare(turned.pool.queue, durable=True, arguments=turned.pool.queue_arguments)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(turned.pool.queue, lambda *delivery: None)
        for _ in range(3):
            channel.basic_publish("", turned.pool.queue, b"waits")
        turned.start()
        turned.until(lambda: turned.noted("nothing was delivered"), "the symptom is in the status")
        assert turned.events(caplog, "consumer.starved") == ["warning"]
        assert not turned.noted("did not answer")
    turned.until(lambda: turned.session.observer.measures.counters.get("delivered") == 3, "the messages come")
    assert not turned.noted("nothing was delivered")


def test_a_queue_that_does_not_even_answer_a_passive_declare_is_unresponsive(
    rabbitmq: RabbitNode, consumer: Callable[..., HandTurned], caplog: pytest.LogCaptureFixture
) -> None:
    """The queue's own process hangs, as in the incident; connection and heartbeats are fine."""
    turned = consumer()
    turned.start()
    turned.until(lambda: turned.session.observer.health.queue_status().consumers > 0, "the queue answers")
    rabbitmq.call(f"sys:suspend({_process_of(turned.pool.queue)})")
    try:
        turned.until(lambda: turned.noted("did not answer a passive declare"), "the symptom is in the status")
        assert turned.events(caplog, "queue.unresponsive") == ["warning"]
        assert turned.session.observer.health.connected
    finally:
        rabbitmq.call(f"sys:resume({_process_of(turned.pool.queue)})")
    turned.until(lambda: not turned.noted("did not answer"), "it answers again")


def _process_of(queue: str) -> str:
    resource = f'{{resource, <<"/">>, queue, <<"{queue}">>}}'
    return f"amqqueue:get_pid(element(2, rabbit_amqqueue:lookup({resource})))"


# ---- published means confirmed --------------------------------------------------------------------------------------


def _declare_full_after(node: RabbitNode, queue: str, length: int) -> None:
    arguments = {"x-max-length": length, "x-overflow": "reject-publish"}
    with node.channel() as channel:
        channel.queue_declare(queue, durable=True, arguments=arguments)


def test_the_publish_command_counts_only_what_the_broker_confirmed(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, start=False) as under_test:
        _declare_full_after(rabbitmq, under_test.queue, 2)
        done = under_test.cli("publish", under_test.queue, stdin="1\n2\n3\n4\n5\n")
        taken = rabbitmq.depth(under_test.queue)
        assert done.returncode == 1
        assert re.search(rf"published {taken} message.*{5 - taken} not confirmed", done.stderr), done.stderr
        assert taken < 5
        assert "they may or may not be in the queue: with --id-prefix" in done.stderr  # a nack leaves it open


def test_a_publish_to_a_missing_queue_says_so_and_reads_no_message(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, start=False) as under_test:
        done = under_test.cli("publish", "no-such-queue", stdin="1\n2\n")
        assert done.returncode == 1
        server = rf"RabbitMQ \S+ at amqp://127.0.0.1:{rabbitmq.port}/%2F"
        assert re.search(rf"there is no queue no-such-queue on {server}: nothing was published; ", done.stderr)
        assert f"preforkd makes the queues of its pools only ({under_test.queue})" in done.stderr


def test_a_publisher_without_other_rights_is_told_by_the_returned_messages(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    rabbitmq.add_user("publisher", "only", ("^$", "^amq\\.default$", "^$"))
    with rabbit_daemon(tmp_path, rabbitmq, start=False) as under_test:
        with rabbitmq.channel() as channel:
            channel.queue_declare(under_test.queue, durable=True)
        text = under_test.config_path.read_text()
        under_test.config_path.write_text(re.sub("//.*@", "//publisher:only@", text))

        assert "published 1 message" in under_test.cli_ok("publish", under_test.queue, stdin="1\n")
        done = under_test.cli("publish", "no-such-queue", stdin="1\n2\n")
        assert done.returncode == 1
        assert "there is no queue 'no-such-queue'" in done.stderr or "there is no queue no-such-queue" in done.stderr


def test_a_handlers_message_that_the_broker_did_not_take_fails_its_run(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 1\nmax_attempts = 1") as under_test:
        full = f"{under_test.queue}.results"
        _declare_full_after(rabbitmq, full, 1)
        under_test.send("publish", full, 1, message_id="fits")
        under_test.wait_counted(done=1)
        under_test.send("publish", full, 1, message_id="too-much")
        under_test.wait_counted(done=1, failed=1, dead=1)
        [(properties, _body)] = under_test.dead()
        assert properties.message_id == "too-much"
        assert properties.headers["x-preforkd-cause"] == "publish_failed"
        assert "nack" in properties.headers["x-preforkd-reason"]
