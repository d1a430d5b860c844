"""`supervisor.client` on a real broker: confirmed, returned, refused, lost, blocked, delayed; threads, forks, loops."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any
from uuid import uuid4

import pytest

from supervisor.brokers.amqp.queues import delay_queue
from supervisor.client import (
    BufferFull,
    Client,
    ClientClosed,
    ClientError,
    InvalidMessage,
    LoginRefused,
    Refused,
    TimedOut,
    Unroutable,
)
from tests.support.proxy import Proxy, running_proxy
from tests.support.rabbitmq import RabbitNode, free_port
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def queue(rabbitmq: RabbitNode) -> Iterator[str]:
    """An empty durable queue."""
    name = f"client-{uuid4().hex}"
    with rabbitmq.channel() as channel:
        channel.queue_declare(name, durable=True)
    yield name
    with rabbitmq.channel() as channel:
        channel.queue_delete(name)


@pytest.fixture
def client(rabbitmq: RabbitNode) -> Iterator[Client]:
    with Client(rabbitmq.url, name="client test") as client:
        yield client


@pytest.fixture
def proxy(rabbitmq: RabbitNode) -> Iterator[Proxy]:
    with running_proxy(rabbitmq.port) as proxy:
        yield proxy


def behind(proxy: Proxy, **options: Any) -> Client:
    """A client whose connection goes through the proxy."""
    return Client(f"amqp://guest:guest@127.0.0.1:{proxy.port}/", **options)


def taken(node: RabbitNode, queue: str) -> list[tuple[Any, bytes]]:
    """What is in a queue, taken out: properties and bodies, oldest first."""
    found = []
    with node.channel() as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append((got[1], got[2]))
    return found


def ids(node: RabbitNode, queue: str) -> list[str]:
    return [properties.message_id for properties, _body in taken(node, queue)]


def raised(call: Any) -> ClientError:
    """The error that `call()` raises."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value


# ---- one message ----------------------------------------------------------------------------------------------------


def test_a_published_message_is_durable_and_has_what_the_program_gave(
    client: Client, rabbitmq: RabbitNode, queue: str
) -> None:
    assert client.publish(queue, "é", message_id="order-1", headers={"tenant": 7}, expires_s=60) == "order-1"
    made = client.publish(queue, b"")

    (first, body), (second, _) = taken(rabbitmq, queue)
    assert (first.message_id, first.delivery_mode, body) == ("order-1", 2, "é".encode())
    assert first.headers == {"tenant": 7, "x-preforkd-expires": first.headers["x-preforkd-expires"]}
    assert 59 <= first.headers["x-preforkd-expires"] - first.timestamp <= 61
    assert second.message_id == made


def test_what_cannot_be_published_fails_alone_and_says_where_it_is(
    client: Client, rabbitmq: RabbitNode, queue: str
) -> None:
    good = [client.submit(queue, b"x", message_id=f"m{number}") for number in range(50)]
    missing = client.submit("no-such-queue", b"", message_id="lost")
    nowhere = client.submit("key", b"", exchange="no-such-exchange")
    outsider = client.submit(queue, b"", user_id="outsider")
    good += [client.submit(queue, b"x", message_id=f"m{number}") for number in range(50, 100)]
    wait([*good, missing, nowhere, outsider], 30)

    assert [future.result(0) for future in good] == [f"m{number}" for number in range(100)]
    unroutable = missing.exception(0)
    assert isinstance(unroutable, Unroutable)
    assert not unroutable.maybe_published
    assert "'lost' for queue 'no-such-queue'" in str(unroutable)
    assert f"127.0.0.1:{rabbitmq.port}" in str(unroutable)
    for future, words in ((nowhere, "no exchange 'no-such-exchange'"), (outsider, "outsider")):
        refused = future.exception(0)
        assert isinstance(refused, Refused)
        assert not refused.maybe_published
        assert words in str(refused)
    assert sorted(ids(rabbitmq, queue)) == sorted(f"m{number}" for number in range(100))


def test_incident_3_many_threads_share_one_connection_and_one_channel(rabbitmq: RabbitNode, queue: str) -> None:
    connections, channels = rabbitmq.connections(), rabbitmq.channels()
    with Client(rabbitmq.url, name="shared") as client:

        def publish() -> None:
            for _ in range(50):
                client.publish(queue, b"x")

        threads = [threading.Thread(target=publish) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "shared" in rabbitmq.connection_names()
        assert rabbitmq.connections() == connections + 1
        assert rabbitmq.channels() == channels + 1
    assert rabbitmq.depth(queue) == 800


def test_a_bad_url_is_told_at_once_and_without_its_password() -> None:
    for url in ("http://u:secret@h/", "localhost:5672", "embedded:", []):
        with pytest.raises(ValueError, match="Client: ") as refused:
            Client(url)
        assert "secret" not in str(refused.value)


# ---- the connection -------------------------------------------------------------------------------------------------


def test_what_a_lost_connection_left_unconfirmed_is_published_again_in_its_order(
    proxy: Proxy, rabbitmq: RabbitNode, queue: str
) -> None:
    with behind(proxy) as client:
        client.publish(queue, b"", message_id="first")
        proxy.silence()
        futures = [client.submit(queue, b"x", message_id=f"m{number}") for number in range(100)]
        proxy.reset()
        futures += [client.submit(queue, b"x", message_id=f"m{number}") for number in range(100, 120)]
        wait(futures, 30)

        assert [future.result(0) for future in futures] == [f"m{number}" for number in range(120)]
    assert ids(rabbitmq, queue) == ["first", *(f"m{number}" for number in range(120))]


def test_while_the_broker_is_away_messages_are_kept_up_to_the_bound(
    proxy: Proxy, rabbitmq: RabbitNode, queue: str
) -> None:
    proxy.refuse()
    with behind(proxy, max_messages=5) as client:
        late = raised(lambda: client.publish(queue, b"", message_id="late", timeout_s=0.5))
        futures = [client.submit(queue, b"", message_id=f"m{number}") for number in range(5)]
        full = raised(lambda: client.submit(queue, b"", message_id="sixth"))
        proxy.admit()
        wait(futures, 30)

        assert [future.result(0) for future in futures] == [f"m{number}" for number in range(5)]
    assert isinstance(late, TimedOut)
    assert not late.maybe_published
    assert "is away" in str(late)
    assert isinstance(full, BufferFull)
    assert "max_messages = 5" in str(full)
    assert ids(rabbitmq, queue) == [f"m{number}" for number in range(5)], "what timed out before is not sent"


def test_a_message_without_its_confirm_in_time_may_be_at_the_broker_and_is_not_sent_again(
    proxy: Proxy, rabbitmq: RabbitNode, queue: str
) -> None:
    with behind(proxy) as client:
        client.publish(queue, b"", message_id="first")
        proxy.silence()
        late = raised(lambda: client.publish(queue, b"", message_id="late", timeout_s=0.5))
        assert isinstance(late, TimedOut)
        assert late.maybe_published
        assert "publish it again with message_id='late', and it runs once" in str(late)
        proxy.reset()
        client.publish(queue, b"", message_id="last")
    assert ids(rabbitmq, queue) == ["first", "last"]


def test_heartbeats_go_on_in_an_idle_program_and_a_peer_without_a_fin_is_left(
    proxy: Proxy, rabbitmq: RabbitNode, queue: str
) -> None:
    with behind(proxy, heartbeat_s=1.0, name="idle") as client:
        client.publish(queue, b"")
        heard = (
            "lists:sum([proplists:get_value(recv_cnt, I) || I <- rabbit_networking:connection_info_all([recv_cnt])])"
        )
        before = int(rabbitmq.call(heard))
        eventually(lambda: int(rabbitmq.call(heard)) > before, "the broker has heard a heartbeat")
        assert proxy.attempts == 1
        proxy.silence()
        eventually(lambda: proxy.attempts > 1, "the client has connected again")
        client.publish(queue, b"")


def test_an_alarm_of_the_broker_keeps_messages_until_it_ends(rabbitmq: RabbitNode, queue: str) -> None:
    with Client(rabbitmq.url) as client:
        client.publish(queue, b"")
        rabbitmq.set_memory_alarm()
        try:
            client.submit(queue, b"", message_id="noticed")  # the broker tells of an alarm once something is published
            late = eventually(lambda: _alarmed(client, queue), "the alarm is told")
            withdrawn = raised(lambda: client.publish(queue, b"", message_id="withdrawn", timeout_s=0.2))
            kept = client.submit(queue, b"", message_id="kept")
        finally:
            rabbitmq.clear_memory_alarm()
        assert kept.result(30) == "kept"
    assert "memory" in str(late)
    assert not withdrawn.maybe_published
    found = ids(rabbitmq, queue)
    assert "kept" in found
    assert "withdrawn" not in found


def _alarmed(client: Client, queue: str) -> ClientError | None:
    error = raised(lambda: client.publish(queue, b"", timeout_s=0.2))
    return error if "accepts no publications" in str(error) else None


def test_a_refused_login_is_told_at_once_and_heals_by_itself(rabbitmq: RabbitNode, queue: str) -> None:
    user = f"late-{uuid4().hex}"
    with Client(f"amqp://{user}:secret@127.0.0.1:{rabbitmq.port}/%2F") as client:
        refused = [raised(lambda: client.publish(queue, b"")) for _ in range(3)]
        rabbitmq.add_user(user, "secret", ("^$", ".*", "^$"))
        eventually(lambda: _published(client, queue), "the login works by now")

    assert all(isinstance(error, LoginRefused) and not error.maybe_published for error in refused)
    assert "check user and password in the client's URL" in str(refused[0])
    assert not any("secret" in str(error) for error in refused)


def _published(client: Client, queue: str) -> bool:
    try:
        client.publish(queue, b"")
    except LoginRefused:
        return False
    return True


def test_of_several_brokers_one_that_is_up_is_found_though_another_refuses_the_login(
    rabbitmq: RabbitNode, queue: str
) -> None:
    dead, wrong = f"amqp://127.0.0.1:{free_port()}/", f"amqp://unknown:x@127.0.0.1:{rabbitmq.port}/"
    with Client([wrong, dead, rabbitmq.url]) as client:
        client.publish(queue, b"", message_id="m")
    assert ids(rabbitmq, queue) == ["m"]


# ---- delays ---------------------------------------------------------------------------------------------------------


def test_a_delayed_message_waits_in_the_consumers_own_delay_queue_and_arrives(
    client: Client, rabbitmq: RabbitNode, queue: str
) -> None:
    assert client.send_later(queue, {"number": 7}, delay_s=0.2, message_id="later") == "later"
    client.send_later(queue, {"number": 8})
    plan = delay_queue(queue, 0.2)
    assert plan.name == f"{queue}.retry.250"
    try:
        with rabbitmq.channel() as channel:
            channel.queue_declare(plan.name, durable=True, arguments=plan.arguments)  # 406 if it were another queue
        eventually(lambda: rabbitmq.depth(queue) == 2, "it is in its queue")
        found = {properties.message_id: (properties, json.loads(body)) for properties, body in taken(rabbitmq, queue)}
        properties, value = found["later"]
        assert (properties.content_type, value) == ("application/json", {"number": 7})
    finally:
        with rabbitmq.channel() as channel:
            channel.queue_delete(plan.name)


def test_a_delayed_message_for_no_queue_is_refused_and_makes_no_delay_queue(
    client: Client, rabbitmq: RabbitNode
) -> None:
    error = raised(lambda: client.send_later("no-such-queue", 1, delay_s=60))

    assert isinstance(error, Unroutable)
    assert not error.maybe_published
    assert "no-such-queue.retry" not in rabbitmq.call("rabbit_amqqueue:list_names()")
    assert isinstance(raised(lambda: client.send_later("no-such-queue", 1, delay_s=10**6)), InvalidMessage)


def test_a_missing_right_to_declare_a_delay_queue_comes_with_its_command(rabbitmq: RabbitNode, queue: str) -> None:
    user = f"web-{uuid4().hex}"
    rabbitmq.add_user(user, "pw", ("^$", r"^(amq\.default)$", "^$"))
    with Client(f"amqp://{user}:pw@127.0.0.1:{rabbitmq.port}/%2F") as client:
        error = raised(lambda: client.send_later(queue, 1, delay_s=60))
        assert isinstance(error, Refused)
        assert not error.maybe_published
        assert f"rabbitmqctl set_permissions -p / {user} '^(" in str(error)
        assert f"{re.escape(queue)}\\.retry\\.60000)$'" in str(error)
        client.publish(queue, b"")

        delayed = f"^{queue}\\.retry\\..*$"
        rabbitmq.set_permissions(user, (delayed, rf"^(amq\.default|{queue}\.retry\..*)$", delayed))
    with Client(f"amqp://{user}:pw@127.0.0.1:{rabbitmq.port}/%2F") as client:
        client.send_later(queue, 1, delay_s=60)
    with rabbitmq.channel() as channel:
        channel.queue_delete(delay_queue(queue, 60).name)


# ---- the end --------------------------------------------------------------------------------------------------------


def test_close_says_what_was_not_confirmed_and_then_nothing_is_taken(
    proxy: Proxy, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = behind(proxy)
    client.publish(queue, b"")
    proxy.silence()
    future = client.submit(queue, b"", message_id="m1")
    with caplog.at_level(logging.ERROR, "preforkd.client"):
        assert client.close(0.5) == ["m1"]
    assert client.close() == ["m1"]

    error = future.exception(0)
    assert isinstance(error, ClientClosed)
    assert error.maybe_published
    assert "closed with 1 message(s) without a confirm: 'm1'" in caplog.text
    assert isinstance(raised(lambda: client.publish(queue, b"")), ClientClosed)


def test_close_waits_for_confirms(client: Client, rabbitmq: RabbitNode, queue: str) -> None:
    futures = [client.submit(queue, b"") for _ in range(500)]

    assert client.close(30) == []
    assert all(future.exception(0) is None for future in futures)
    assert rabbitmq.depth(queue) == 500


# ---- coroutines -----------------------------------------------------------------------------------------------------


def test_a_coroutine_publishes_while_its_loop_goes_on_and_a_cancelled_one_leaves_its_message(
    proxy: Proxy, rabbitmq: RabbitNode, queue: str
) -> None:
    async def publish(client: Client) -> None:
        assert await client.publish_async(queue, b"", message_id="first") == "first"
        proxy.refuse()
        waiting = [asyncio.ensure_future(client.publish_async(queue, b"", message_id=f"m{n}")) for n in range(20)]
        done, pending = await asyncio.wait(waiting, timeout=0.2)
        assert not done
        waiting[0].cancel()
        proxy.admit()
        results = await asyncio.gather(*pending, return_exceptions=True)
        assert isinstance(results.pop([*pending].index(waiting[0])), asyncio.CancelledError)
        assert sorted(results) == sorted(f"m{n}" for n in range(1, 20))  # type: ignore[type-var]
        await client.publish_async(queue, b"", message_id="last")

    with behind(proxy) as client:
        asyncio.run(publish(client))
    assert set(ids(rabbitmq, queue)) == {"first", "last", *(f"m{n}" for n in range(20))}


# ---- processes ------------------------------------------------------------------------------------------------------


def script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that publishes; it has ended when this returns."""
    command = [sys.executable, "-W", "ignore", "-c", text, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


_FORKS = """
import os, sys
from supervisor.client import Client
url, queue = sys.argv[1:]
client = Client(url, name="forks")
client.publish(queue, b"", message_id="parent-1")
buffered = [client.submit(queue, b"", message_id=f"buffered-{n}") for n in range(2000)]
children = []
for number in range(3):
    pid = os.fork()
    if not pid:
        client.publish(queue, b"", message_id=f"child-{number}")
        client.close()
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
assert [future.result(30) for future in buffered][0] == "buffered-0"
client.publish(queue, b"", message_id="parent-2")
"""


def test_each_child_of_a_fork_connects_by_itself_and_sends_nothing_of_its_parents(
    rabbitmq: RabbitNode, queue: str
) -> None:
    ran = script(_FORKS, rabbitmq.url, queue)

    assert ran.returncode == 0, ran.stderr
    expected = ["parent-1", "parent-2", *(f"buffered-{n}" for n in range(2000)), *(f"child-{n}" for n in range(3))]
    assert sorted(ids(rabbitmq, queue)) == sorted(expected)


_PRELOADED = """
import os, signal, sys
from pathlib import Path
from supervisor.client import Client
url, queue = sys.argv[1:]

def sockets():
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return {link for link in links if link.startswith("socket:")}

client = Client(url)
client.publish(queue, b"", message_id="parent-first")
inherited, children = sockets(), []
assert len(inherited) == 1
for end in ("exit", "_exit", "kill"):
    if not (pid := os.fork()):
        assert not sockets() & inherited, "the child has the parent's connection"
        futures = [client.submit(queue, b"c" * 3000, message_id=f"{end}-{n}") for n in range(300)]
        assert [future.result(30) for future in futures] == [f"{end}-{n}" for n in range(300)]
        {"exit": sys.exit, "_exit": os._exit, "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL)}[end](0)
    children.append(pid)
futures = [client.submit(queue, b"p" * 3000, message_id=f"parent-{n}") for n in range(1000)]
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
assert [future.result(30) for future in futures] == [f"parent-{n}" for n in range(1000)]
client.publish(queue, b"", message_id="parent-last")
assert sockets() == inherited, "the parent has connected again"
"""


def test_a_parent_keeps_its_connection_though_its_children_publish_and_end_in_any_way(
    proxy: Proxy, rabbitmq: RabbitNode, queue: str
) -> None:
    ran = script(_PRELOADED, f"amqp://guest:guest@127.0.0.1:{proxy.port}/", queue)

    assert (ran.returncode, ran.stdout) == (0, "[0, 0, -9]\n"), ran.stderr
    assert proxy.attempts == 4, "one connection for each process: a foreign byte would have ended one of them"
    found = [(properties.message_id, body[:1], len(body)) for properties, body in taken(rabbitmq, queue)]
    expected = [("parent-first", b"", 0), ("parent-last", b"", 0)]
    expected += [(f"parent-{n}", b"p", 3000) for n in range(1000)]
    expected += [(f"{end}-{n}", b"c", 3000) for end in ("exit", "_exit", "kill") for n in range(300)]
    assert sorted(found) == sorted(expected)
    parents = [message_id for message_id, _first, _size in found if message_id.startswith("parent-")]
    assert parents == ["parent-first", *(f"parent-{n}" for n in range(1000)), "parent-last"]


_ENDS = """
import logging, sys
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
logging.getLogger("pika").setLevel(logging.CRITICAL)
from supervisor.client import Client
url, queue, count = sys.argv[1:]
client = Client(url)
for number in range(int(count)):
    client.submit(queue, b"", message_id=f"m{number}")
"""


def test_a_program_that_ends_has_its_messages_confirmed_before(rabbitmq: RabbitNode, queue: str) -> None:
    ran = script(_ENDS, rabbitmq.url, queue, "3000")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert rabbitmq.depth(queue) == 3000


def test_a_program_that_ends_while_the_broker_is_away_ends_in_time_and_names_its_messages(queue: str) -> None:
    ran = script(_ENDS, f"amqp://127.0.0.1:{free_port()}/", queue, "4")

    assert ran.returncode == 0
    assert "preforkd.client ERROR closed with 4 message(s) without a confirm: 'm0', 'm1', 'm2'" in ran.stderr
    assert "Traceback" not in ran.stderr
