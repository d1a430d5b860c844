"""Incident 2: connections that are dead without a FIN, handlers that starve heartbeats, acks on the wrong channel.

The network between daemon and broker is a proxy of the test, so that it can fail as real ones do.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supervisor.brokers.amqp.connection import Backoff
from supervisor.system.clock import monotonic_s
from tests.support.proxy import BASIC_ACK, Proxy, running_proxy
from tests.support.rabbit_daemon import HEARTBEAT_S, bystander, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

PATIENT = 'prefetch = 5\ntimeout = "60s"\n'


@pytest.fixture
def proxy(rabbitmq: RabbitNode) -> Iterator[Proxy]:
    with running_proxy(rabbitmq.port) as proxy:
        yield proxy


# ---- heartbeats ---------------------------------------------------------------------------------------------------


def test_a_dead_peer_without_a_fin_is_noticed_within_two_heartbeats_while_only_receiving(
    rabbitmq: RabbitNode, tmp_path: Path, proxy: Proxy
) -> None:
    """Nothing is sent on the connection, nothing says that it is dead, and the broker comes back elsewhere."""
    with rabbit_daemon(tmp_path, rabbitmq, PATIENT, port=proxy.port) as under_test:
        assert {wire.heartbeat_s for wire in under_test.wires()} == {HEARTBEAT_S}
        dead = {wire.name for wire in under_test.wires()}
        proxy.silence()
        silent_at = datetime.now(UTC)
        eventually(under_test.has("consumer.disconnected"), "the silence is noticed")
        [line] = under_test.events("consumer.disconnected")
        assert "nothing heard from the broker" in line["reason"]
        assert datetime.fromisoformat(line["at"]) - silent_at < timedelta(seconds=2 * HEARTBEAT_S)

        under_test.send("nothing", message_id="after")
        under_test.wait_done("after")
        eventually(lambda: len(under_test.wires()) == 2, "the broker has given up the dead connections, too")
        assert dead.isdisjoint({wire.name for wire in under_test.wires()})


def test_a_handler_that_keeps_processor_and_interpreter_busy_changes_nothing(
    rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 1\n" + PATIENT) as under_test:
        before = under_test.lines()
        with bystander(rabbitmq) as given_up:
            under_test.send("compute", "enough", message_id="busy")
            eventually(lambda: under_test.marked("holding"), "the handler computes")
            eventually(given_up, "the broker has given up a client that was silent for so long")
        under_test.release("enough")
        under_test.wait_done("busy")
        eventually(under_test.settled, "the message is acked on the connection that brought it")

        assert under_test.lines() == before
        assert under_test.runs("busy") == [1]


# ---- reconnecting -------------------------------------------------------------------------------------------------


def test_reconnecting_is_ever_rarer_and_no_storm(rabbitmq: RabbitNode, tmp_path: Path, proxy: Proxy) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 1\n" + PATIENT, port=proxy.port) as under_test:
        before = proxy.attempts
        proxy.refuse()
        eventually(lambda: len(under_test.events("consumer.disconnected")) >= 4, "four attempts have failed")
        waits_s = [line["retry_in_s"] for line in under_test.events("consumer.disconnected")]
        assert proxy.attempts - before <= 2 * len(waits_s), "two connections, one attempt each between two waits"
        proxy.admit()
        under_test.send("nothing", message_id="after")
        under_test.wait_done("after")

    nominal_s = (0.1, 1.0, 2.0, 4.0)
    assert all(0.75 * full_s <= wait_s <= full_s for wait_s, full_s in zip(waits_s, nominal_s, strict=False)), waits_s


def test_the_wait_between_attempts_is_capped_and_never_the_same_for_all() -> None:
    clients = [Backoff() for _ in range(50)]
    for _ in range(20):
        waits_s = [client.next_s() for client in clients]

    assert all(22.5 <= wait_s <= 30.0 for wait_s in waits_s)
    assert max(waits_s) - min(waits_s) > 1.0


# ---- acks ---------------------------------------------------------------------------------------------------------


def test_a_late_result_settles_its_own_message_and_no_other(rabbitmq: RabbitNode, tmp_path: Path, proxy: Proxy) -> None:
    """Tags begin again on each channel: tag 2 is `late` on the first channel, and `innocent` on the second."""
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 2\n" + PATIENT, port=proxy.port) as under_test:
        under_test.send("nothing", message_id="first")
        under_test.wait_done("first")
        under_test.send("until", "late-may-end", message_id="late")
        under_test.pid_running("late")
        proxy.reset()
        under_test.wait_counted(delivered=3)
        under_test.send("until", "innocent-may-end", message_id="innocent")
        under_test.pid_running("innocent")
        under_test.release("late-may-end")
        under_test.wait_counted(done=2)
        eventually(lambda: under_test.unacked() == 1, "only `innocent` is unsettled")

        proxy.reset()
        under_test.wait_counted(delivered=5)
        under_test.release("innocent-may-end")
        under_test.wait_counted(done=3)
        eventually(under_test.settled, "nothing is left")
        assert [under_test.runs(name) for name in ("first", "late", "innocent")] == [[1], [1], [1]]
        assert len(under_test.events("consumer.disconnected")) == 2, "the broker had no reason to close a channel"


def test_an_ack_that_got_lost_does_not_run_its_message_again(
    rabbitmq: RabbitNode, tmp_path: Path, proxy: Proxy
) -> None:
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 1\n" + PATIENT, port=proxy.port) as under_test:
        proxy.lose(BASIC_ACK)
        under_test.send("nothing", message_id="done-once")
        under_test.wait_done("done-once")
        eventually(lambda: proxy.lost_frames, "the ack has got lost")
        proxy.deliver()
        proxy.reset()
        under_test.wait_counted(duplicate=1)
        eventually(under_test.settled, "it is acked again")
        assert under_test.runs("done-once") == [1]


# ---- alarms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_an_alarm_stops_neither_acks_nor_shutdown(rabbitmq: RabbitNode, tmp_path: Path, resource: str) -> None:
    """What must be published waits, unacked, and survives the stop; everything else goes on."""
    alarm = f"{{resource_limit, {resource}, node()}}"
    pool = 'workers = 2\nprefetch = 5\ntimeout = "60s"\nmax_attempts = 2\nretry_delays = ["100ms"]\n'
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        under_test.send("fail_first", message_id="warm-up")
        under_test.wait_done("warm-up")
        orders = [under_test.order("until", "alarm", message_id=f"held-{n}") for n in range(2)]
        orders += [under_test.order("nothing", message_id="more"), under_test.order("fail_first", message_id="copied")]
        under_test.send_all(orders)
        under_test.pid_running("held-1")
        rabbitmq.call(f"rabbit_alarm:set_alarm({{{alarm}, []}})")
        try:
            under_test.release("alarm")
            under_test.wait_done("held-0", "held-1", "more")
            under_test.wait_counted(done=4, failed=2)
            eventually(lambda: under_test.unacked() == 1, "all is acked but the message whose copy cannot leave")
            eventually(
                lambda: under_test.pool()["consumer"]["connection"]["state"] == "blocked", "status shows the alarm"
            )
            began_s = monotonic_s()
            assert under_test.stop() == 0
            assert monotonic_s() - began_s < 4.0, "the stop waits neither for the alarm's end nor for a goodbye"
        finally:
            rabbitmq.call(f"rabbit_alarm:clear_alarm({alarm})")
        under_test.start()
        under_test.wait_done("copied")
        eventually(under_test.settled, "nothing is left")
        assert under_test.runs("copied") == [1, 2]
