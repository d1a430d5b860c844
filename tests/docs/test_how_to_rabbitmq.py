"""The how-tos about the broker, followed on a real RabbitMQ node: publisher, rights, two hosts, queues of a pool."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.outbox.tables import script
from tests.support.how_to import reader_in, write_files
from tests.support.pages import blocks
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.shells import Shell
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

_HANDLER = """
from supervisor import Message, Retry

def run(message: Message) -> None:
    if message.text() == "again" and message.attempt == 1:
        raise Retry(0.1)
    if message.text() == "never":
        raise ValueError("no")
    if message.text() == "slow" and not message.redelivered:
        import time
        time.sleep(20)
"""
_CONFIG = """
[daemon]
state_dir = "state"
runtime_dir = "run"
[broker]
url = "{url}"
heartbeat = "5s"
[pools.orders]
queue = "{queue}"
handler = "jobs:run"
path = ["."]
workers = 2
max_attempts = 2
retry_delays = ["100ms"]
{more}
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[dict[str, Shell]]:
    """Folders with a daemon each, which ends with the test."""
    made: dict[str, Shell] = {}
    try:
        yield made
    finally:
        for reader in made.values():
            reader.types("preforkd stop --now")


def host(folder: Path, url: str, queue: str = "orders", more: str = "") -> Shell:
    """A folder with a pool on this broker."""
    folder.mkdir()
    (folder / "jobs.py").write_text(_HANDLER)
    (folder / "preforkd.toml").write_text(_CONFIG.format(url=url, queue=queue, more=more))
    return reader_in(folder)


# ---- publishing -----------------------------------------------------------------------------------------------------


_PUBLISHES = """
import asyncio
import os
import sys
import careful
import plain
import publishing
import shop
import sqlite3
import three_ways
publishing.confirm(1)
print(three_ways.wait_for_the_confirm(2), three_ways.go_on(3).result(30), asyncio.run(three_ways.in_a_coroutine(4)))
print(careful.accept(5)[0])
plain.publish(os.environ["RABBITMQ_URL"], "orders", "order-6", b"{}")
db = sqlite3.connect("shop.db")
db.execute("CREATE TABLE orders (number INTEGER)")
db.executescript(sys.stdin.readline().rstrip())
shop.accept(db, 10)
print(shop.relay_all(db, publishing.client))
input()
publishing.confirm(7)
print(three_ways.in_a_minute(8))
input()
print(*careful.accept(9), flush=True)
"""


def test_a_web_application_that_follows_the_page_publishes_in_every_way_and_survives_a_lost_connection(
    tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    assert write_files("publish", tmp_path) == [
        *("publishing.py", "three_ways.py", "careful.py", "shop.py", "plain.py")
    ]
    (tmp_path / "web.py").write_text(_PUBLISHES)
    with rabbitmq.channel() as channel:
        channel.queue_declare("orders", durable=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RABBITMQ_URL": rabbitmq.url}
    command = [sys.executable, "-u", "-W", "ignore", "web.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as web:
        assert web.stdin is not None
        assert web.stdout is not None
        assert [web.stdout.readline(), web.stdout.readline()] == ["order-2 order-3 order-4\n", "202\n"]
        web.stdin.write(" ".join(script("sqlite").split()) + "\n")
        web.stdin.flush()
        assert web.stdout.readline() == "[]\n"
        eventually(lambda: rabbitmq.depth("orders") == 7, "all have arrived")
        with rabbitmq.channel() as channel:
            _, properties, body = channel.basic_get("orders", auto_ack=True)
        assert (properties.message_id, properties.delivery_mode, body) == ("order-1", 2, b'{"number": 1}')
        rabbitmq.close_all_connections()
        web.stdin.write("\n")
        web.stdin.flush()
        assert web.stdout.readline() == "order-8\n"
        with rabbitmq.channel() as channel:
            channel.queue_delete("orders.retry.60000")
            channel.queue_delete("orders")
        web.stdin.write("\n")
        web.stdin.close()
        assert web.stdout.readline().startswith("503 message 'order-9' for queue 'orders': amqp://")


# ---- rights ---------------------------------------------------------------------------------------------------------


def patterns() -> list[str]:
    """Configure, write, read: as docs/how-to/rabbitmq-rights.md gives them."""
    (block,) = blocks(ROOT / "docs/how-to/rabbitmq-rights.md", "sh")
    return re.findall(r"'(.*?)'", block.text)


def test_a_user_with_these_rights_works_through_retries_and_dead_letters(
    tmp_path: Path, own_rabbitmq: RabbitNode, hosts: dict[str, Shell]
) -> None:
    configure, write, read = patterns()
    own_rabbitmq.add_user("preforkd", "pw", (configure, write, read))
    reader = hosts["a"] = host(tmp_path / "a", f"amqp://preforkd:pw@127.0.0.1:{own_rabbitmq.port}/%2F")

    assert " 0 error(s)" in f" {reader.ok('preforkd check').splitlines()[-1]}"
    reader.ok("preforkd start")
    reader.ok("printf 'again\\nnever\\n' | preforkd publish orders --id-prefix m-")
    eventually(lambda: "ValueError" in reader.ok("preforkd dead list orders"), "one is dead")
    eventually(lambda: "done" in reader.ok("preforkd why m-0"), "the other one is done after a retry")
    assert "1 message(s) moved" in reader.ok("preforkd dead retry orders --all")
    eventually(lambda: "ValueError" in reader.ok("preforkd dead list orders"), "it is dead again")

    reader.ok("preforkd stop")
    own_rabbitmq.set_permissions("preforkd", ("^$", write, read))
    assert reader.ok("preforkd start").startswith("preforkd is ready"), "all queues exist: nothing is to be configured"
    reader.ok("preforkd stop")


@pytest.mark.parametrize(
    "kind, pattern",
    [
        (0, "^$"),
        (0, r"^orders(\.dead|\.parked)?$"),
        (1, "^$"),
        (2, "^$"),
        (2, r"^orders\..*$"),
        (2, r"^orders$"),
    ],
)
def test_without_one_of_these_rights_the_start_says_which(
    tmp_path: Path, rabbitmq: RabbitNode, hosts: dict[str, Shell], kind: int, pattern: str
) -> None:
    rights = patterns()
    rights[kind] = pattern
    queue = f"rights{kind}{abs(hash(pattern))}"
    shown = tuple(right.replace("orders", queue) for right in rights)
    rabbitmq.add_user(queue, "pw", (shown[0], shown[1], shown[2]))
    reader = hosts["a"] = host(tmp_path / "a", f"amqp://{queue}:pw@127.0.0.1:{rabbitmq.port}/%2F", queue)

    refused = reader.types("preforkd start")

    assert refused.returncode != 0, refused.stdout
    assert "rabbitmqctl set_permissions" in refused.stderr, refused.stderr


# ---- two hosts, queues ----------------------------------------------------------------------------------------------


def test_a_second_host_waits_and_takes_over_and_does_not_know_what_the_first_has_run(
    tmp_path: Path, rabbitmq: RabbitNode, hosts: dict[str, Shell]
) -> None:
    first = hosts["a"] = host(tmp_path / "a", rabbitmq.url, "standby", "exclusive = true")
    second = hosts["b"] = host(tmp_path / "b", rabbitmq.url, "standby", "exclusive = true")
    first.ok("preforkd start")
    second.types("preforkd start --timeout 2")
    waiting = second.ok("preforkd status")
    assert "has a consumer already, and exclusive = true; trying again in " in waiting
    assert second.types("preforkd status --probe ready").returncode == 1
    assert second.types("preforkd status --probe live").returncode == 0
    first.ok("echo slow | preforkd publish standby --id-prefix s-")
    eventually(lambda: "s-0" in first.ok("preforkd status"), "the first host runs it")

    first.types("kill -KILL $(cat run/preforkd.pid)")

    eventually(lambda: "pool orders: ok" in second.ok("preforkd status"), "the second host consumes", timeout_s=40)
    why = eventually(
        lambda: said if "done" in (said := second.types("preforkd why s-0").stdout) else "", "it has run the message"
    )
    assert "round 1, attempt 1" in why
    second.ok("preforkd stop")


def test_a_pool_with_the_default_delays_has_seven_queues(
    tmp_path: Path, own_rabbitmq: RabbitNode, hosts: dict[str, Shell]
) -> None:
    reader = hosts["a"] = host(tmp_path / "a", own_rabbitmq.url)
    config = reader.folder / "preforkd.toml"
    config.write_text(config.read_text().replace('retry_delays = ["100ms"]\n', ""))

    reader.ok("preforkd start; preforkd stop")

    queues = own_rabbitmq.call("length(rabbit_amqqueue:list())")
    assert queues == "7"
    assert "seven queues" in (ROOT / "README.md").read_text()


# ---- a queue for each host ------------------------------------------------------------------------------------------

_PARTITIONS = 3
_PLUGINS = "rabbitmq_consistent_hash_exchange, rabbitmq_sharding"
_DIVIDES = """
import sys
import divided
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    divided.send(number)
"""


@pytest.mark.parametrize("kind", ["x-consistent-hash", "x-modulus-hash"])
def test_an_exchange_divides_messages_among_daemons_and_an_id_that_is_sent_again_runs_once(
    tmp_path: Path, hosts: dict[str, Shell], kind: str
) -> None:
    (tmp_path / "rabbitmq").mkdir()
    with running_node(tmp_path / "rabbitmq", plugins=_PLUGINS) as node:
        assert write_files("partitions", tmp_path) == ["make_exchange.py", "divided.py", "preforkd.toml"]
        program = tmp_path / "make_exchange.py"
        config = (tmp_path / "preforkd.toml").read_text()
        config = config.replace('"/var/lib/preforkd/state"', '"state"\nruntime_dir = "run"')
        program.write_text(program.read_text().replace("x-consistent-hash", kind))
        (tmp_path / "send.py").write_text(_DIVIDES)
        publisher = reader_in(tmp_path, RABBITMQ_URL=node.url)
        publisher.ok("python make_exchange.py")
        refused = publisher.types("python send.py 0 1").stderr
        assert "supervisor.client.errors.Unroutable" in refused, refused
        for number in range(_PARTITIONS):
            folder = tmp_path / f"host-{number}"
            folder.mkdir()
            (folder / "preforkd.toml").write_text(config)
            name = f"host-{number}"
            hosts[name] = reader_in(folder, RABBITMQ_URL=node.url, PARTITION=str(number))
            hosts[name].ok("preforkd start")

        publisher.ok("python send.py 0 60")
        counted = eventually(lambda: _all_done(hosts, 60), "each message is done")
        assert all(counted), "each daemon has had some"
        publisher.ok("python send.py 0 60")
        eventually(lambda: sum(_counters(host)["duplicate"] for host in hosts.values()) == 60, "all are known")

        assert sum(_all_done(hosts, 60)) == 60
        shared = config.replace("exclusive = true", "")
        (tmp_path / "host-0" / "shared.toml").write_text(shared)
        assert "Set exclusive = true" in hosts["host-0"].ok("preforkd --config shared.toml check")
        assert "Set exclusive = true" not in hosts["host-0"].ok("preforkd check")


def _counters(host: Shell) -> dict[str, int]:
    found: dict[str, int] = json.loads(host.ok("preforkd status --json"))["pools"]["email"]["counters"]
    return found


def _all_done(hosts: dict[str, Shell], number: int) -> list[int]:
    """How many each daemon has done, once that is all."""
    done = [_counters(host)["done"] for host in hosts.values()]
    return done if sum(done) == number else []
