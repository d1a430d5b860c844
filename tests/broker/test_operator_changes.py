"""What operators change at a broker while a daemon runs: limits, users, virtual hosts, alarms, queues."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pika
import pytest

from supervisor.brokers.amqp.queues import QUORUM
from supervisor.system.clock import monotonic_s
from tests.support.daemon import ROOT
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

ONCE = 'workers = 1\nprefetch = 10\nmax_attempts = 1\nretry_delays = ["100ms"]\nhold_retry = "2s"\n'


def connection(under_test: RabbitDaemon) -> str:
    return str(under_test.pool()["consumer"]["connection"]["state"])


def works(under_test: RabbitDaemon) -> None:
    """The next message is done, and nothing is wrong any more."""
    name = f"afterwards-{uuid4().hex[:6]}"
    under_test.send("nothing", message_id=name)
    under_test.wait_done(name, timeout_s=60)
    eventually(lambda: under_test.pool()["state"] == "ok", "the pool is ok")


# ---- alarms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_an_alarm_while_copies_are_refused_is_told_also_after_a_restart_and_stops_no_stop(
    lent_rabbitmq: RabbitNode, tmp_path: Path, resource: str
) -> None:
    with rabbit_daemon(tmp_path, lent_rabbitmq, ONCE, start=False, daemon='stop_timeout = "60s"') as under_test:
        dead = f"{under_test.queue}.dead"
        with lent_rabbitmq.channel() as channel:
            full = QUORUM | {"x-max-length": 1, "x-overflow": "reject-publish"}
            channel.queue_declare(dead, durable=True, arguments=full)
            for _ in range(2):
                channel.basic_publish("", dead, b"fills it")
        under_test.start()
        bad = [f"bad-{number}" for number in range(15)]
        under_test.send_all([under_test.order("reject", message_id=name) for name in bad])
        under_test.wait_counted(failed=len(bad))
        lent_rabbitmq.set_alarm(resource)
        eventually(lambda: connection(under_test) == "blocked", "the alarm is told")
        assert under_test.pool()["state"] == "degraded"

        for _start in range(2):
            begun_s = monotonic_s()
            assert under_test.stop(signal.SIGTERM) == 0
            assert monotonic_s() - begun_s < 15
            under_test.start()
            eventually(lambda: connection(under_test) == "blocked", "the alarm is told after a restart")

        with lent_rabbitmq.channel() as channel:
            channel.queue_delete(dead)
        lent_rabbitmq.clear_alarm(resource)
        under_test.wait_counted(dead=len(bad), timeout_s=60)
        eventually(lambda: connection(under_test) == "connected", "the end of the alarm is told")
        assert sorted(properties.message_id for properties, _ in under_test.dead()) == sorted(bad)


# ---- limits -------------------------------------------------------------------------------------------------------


def user_limit(node: RabbitNode, limit: str) -> None:
    node.call(f'rabbit_auth_backend_internal:set_user_limits(<<"guest">>, <<"{{\\"{limit}}}">>, <<"test">>)')


def vhost_limit(node: RabbitNode, limit: str) -> None:
    node.call(f'rabbit_vhost_limit:parse_set(<<"/">>, <<"{{\\"{limit}}}">>, <<"test">>)')


@pytest.mark.parametrize(
    ("set_limit", "limit", "told"),
    [
        (user_limit, r"max-channels\": 2", "limit of channels"),
        (user_limit, r"max-connections\": 0", "limit of connections"),
        (vhost_limit, r"max-connections\": 1", "limit of connections"),
    ],
    ids=["channels of a user", "connections of a user", "connections of a virtual host"],
)
def test_a_limit_that_is_reached_is_waited_for_by_the_same_consumer(
    lent_rabbitmq: RabbitNode, tmp_path: Path, set_limit: Callable[[RabbitNode, str], None], limit: str, told: str
) -> None:
    with rabbit_daemon(tmp_path, lent_rabbitmq, ONCE) as under_test:
        set_limit(lent_rabbitmq, limit)
        lent_rabbitmq.close_all_connections()
        eventually(lambda: told in under_test.pool()["why"], "the limit is told")
        assert under_test.pool()["state"] == "degraded"
        lent_rabbitmq.call('rabbit_auth_backend_internal:clear_user_limits(<<"guest">>, <<"all">>, <<"test">>)')
        lent_rabbitmq.call('rabbit_vhost_limit:clear(<<"/">>, <<"test">>)')
        works(under_test)
        assert under_test.exits(kind="consumer") == []


# ---- users, virtual hosts, queues -----------------------------------------------------------------------------------


def lose_vhost(node: RabbitNode) -> None:
    node.call('rabbit_vhost:delete(<<"changing">>, <<"test">>)')


def lose_user(node: RabbitNode) -> None:
    node.call('rabbit_auth_backend_internal:delete_user(<<"changing">>, <<"test">>)')


def other_password(node: RabbitNode) -> None:
    node.call('rabbit_auth_backend_internal:change_password(<<"changing">>, <<"other">>, <<"test">>)')
    node.close_all_connections()


def no_rights(node: RabbitNode) -> None:
    node.set_permissions("changing", ("^$", "^$", "^$"), "changing")
    node.close_all_connections()


def mended(node: RabbitNode) -> None:
    """Whatever was taken away is there again."""
    node.call('catch rabbit_vhost:add(<<"changing">>, <<"test">>)')
    node.call('catch rabbit_auth_backend_internal:add_user(<<"changing">>, <<"pw">>, <<"test">>)')
    node.call('rabbit_auth_backend_internal:change_password(<<"changing">>, <<"pw">>, <<"test">>)')
    node.set_permissions("changing", (".*", ".*", ".*"), "changing")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lose_vhost, "virtual host"),
        (lose_user, "user and password"),
        (other_password, "user and password"),
        (no_rights, "rabbitmqctl set_permissions"),
    ],
)
def test_what_the_broker_refuses_holds_the_pool_with_the_reason_until_it_is_mended(
    lent_rabbitmq: RabbitNode, tmp_path: Path, change: Callable[[RabbitNode], None], told: str
) -> None:
    mended(lent_rabbitmq)
    with rabbit_daemon(tmp_path, lent_rabbitmq, ONCE, start=False) as under_test:
        text = under_test.config_path.read_text().replace("guest:guest", "changing:pw").replace("/%2F", "/changing")
        under_test.config_path.write_text(text)
        under_test.start()
        change(lent_rabbitmq)
        eventually(lambda: under_test.pool()["state"] == "held", "the pool is held")
        assert told in under_test.pool()["why"]
        recovered = under_test.has("pool.recovered")
        assert not recovered(), "a consumer that the broker has not taken yet is no recovery"
        mended(lent_rabbitmq)
        eventually(lambda: under_test.pool()["state"] == "ok" and recovered(), "it heals by itself")
        assert under_test.stop() == 0


def test_a_virtual_host_that_is_made_again_names_the_retries_that_went_with_it(
    lent_rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    mended(lent_rabbitmq)
    pool = 'workers = 1\nretry_delays = ["5m"]\nhold_retry = "2s"\n'
    with rabbit_daemon(tmp_path, lent_rabbitmq, pool, start=False) as under_test:
        text = under_test.config_path.read_text().replace("guest:guest", "changing:pw").replace("/%2F", "/changing")
        under_test.config_path.write_text(text)
        under_test.start()
        url = f"amqp://changing:pw@127.0.0.1:{lent_rabbitmq.port}/changing"
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            body = under_test.order("fail").body
            connection.channel().basic_publish("", under_test.queue, body, pika.BasicProperties(message_id="lost"))
        under_test.wait_counted(retried=1)
        lose_vhost(lent_rabbitmq)
        eventually(lambda: under_test.pool()["state"] == "held", "the pool is held")
        mended(lent_rabbitmq)
        eventually(lambda: "'lost'" in under_test.pool()["why"], "the lost message is named", 60)
        assert [line["message_id"] for line in under_test.events("message.gone")] == ["lost"]


def test_a_work_queue_that_is_deleted_is_told_with_what_was_in_it(node: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, node, "workers = 1\nprefetch = 2\n") as under_test:
        under_test.send_all(under_test.order("until", "go", message_id=f"m-{number}") for number in range(10))
        eventually(lambda: under_test.pool()["depth"]["ready"] == 8, "the queue's depth is known")
        with node.channel() as channel:
            channel.queue_delete(under_test.queue)
        told = eventually(lambda: under_test.events("queue.shrunk"), "the loss is told")[0]
        assert "about 8 messages" in told["message"]
        under_test.release("go")
        under_test.wait_done("m-0", "m-1")
        works(under_test)


def leader(node: RabbitNode, queue: str, do: str) -> None:
    """Do something with the only replica of a quorum queue, whose Erlang name is Name."""
    found = f'element(4, amqqueue:get_name(Q)) =:= <<"{queue}">>'
    node.call(f"[begin {{Name, _}} = amqqueue:get_pid(Q), {do} end || Q <- rabbit_amqqueue:list(), {found}]")


def test_a_queue_without_a_leader_is_told_and_goes_on_when_it_has_one(node: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, node) as under_test:
        works(under_test)
        leader(node, under_test.queue, "ra:stop_server(quorum_queues, {Name, node()})")
        eventually(lambda: "no leader" in under_test.pool()["why"], "the state is told", 60)
        leader(node, under_test.queue, "ra:restart_server(quorum_queues, {Name, node()})")
        works(under_test)


def test_a_leader_that_dies_costs_nothing(node: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, node) as under_test:
        under_test.send("until", "go", message_id="running")
        under_test.pid_running("running")
        leader(node, under_test.queue, "exit(whereis(Name), kill)")
        under_test.release("go")
        works(under_test)
        assert under_test.runs("running") == [1]
        eventually(under_test.settled, "all are acked")


def test_a_node_in_maintenance_is_waited_for(own_rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with rabbit_daemon(tmp_path, own_rabbitmq, ONCE) as under_test:
        own_rabbitmq.call("rabbit_maintenance:drain()")
        eventually(lambda: under_test.pool()["state"] == "degraded", "the drain is told")
        eventually(under_test.has("consumer.disconnected"), "it is logged")
        assert "maintenance" in under_test.events("consumer.disconnected")[0]["reason"]
        own_rabbitmq.call("rabbit_maintenance:revive()")
        works(under_test)
        assert under_test.exits(kind="consumer") == []


def test_a_work_queue_made_again_as_a_stream_holds_its_pool_alone(node: RabbitNode, tmp_path: Path) -> None:
    other = f"other-{uuid4().hex[:6]}"
    more = (
        f'[pools.other]\nqueue = "{other}"\nhandler = "tests.support.job_handlers:run"\npath = ["{ROOT}"]\n'
        f'workers = 1\n[pools.other.environment]\nMARKS = "{tmp_path / "marks"}"\n'
    )
    with rabbit_daemon(tmp_path, node, ONCE, more=more) as under_test, node.channel() as channel:
        try:
            channel.queue_delete(under_test.queue)
            channel.queue_declare(under_test.queue, durable=True, arguments={"x-queue-type": "stream"})
            eventually(lambda: under_test.pool()["state"] == "held", "the pool is held")
            assert "stream" in under_test.pool()["why"]
            body = under_test.order("nothing", message_id="of the other pool").body
            channel.basic_publish("", other, body, pika.BasicProperties(message_id="of the other pool"))
            under_test.wait_done("of the other pool")
            channel.queue_delete(under_test.queue)
            eventually(lambda: under_test.pool()["state"] == "ok", "it heals by itself")
            works(under_test)
        finally:
            for name in ("", ".dead", ".parked", *(f".retry.{step}" for step in (10_000, 60_000, 300_000))):
                channel.queue_delete(other + name)
