"""A broker that refuses is named at the start, one that is away is waited for; no password shown, nothing lost."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import pytest

from tests.support.rabbitmq import RabbitNode
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

FAILED = 1


@pytest.fixture
def site(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[Site]:
    """A site on RabbitMQ, with a queue of its own."""
    with make_site(tmp_path) as site:
        text = site.config.read_text().replace("embedded:", rabbitmq.url)
        text = text.replace('queue = "mail"', f'queue = "{queue(site)}"').replace(
            "workers = 1", "workers = 1\nprefetch = 8"
        )
        site.config.write_text(text.replace("max_attempts = 1", 'max_attempts = 2\nretry_delays = ["50ms"]'))
        yield site


def queue(site: Site) -> str:
    """The site's queue."""
    return f"mail-{site.folder.name}"


def configure(site: Site, old: str, new: str) -> None:
    """Another text in the configuration."""
    text = site.config.read_text()
    assert old in text
    site.config.write_text(text.replace(old, new))


REFUSALS = {
    "a wrong password": ("guest:guest@", "guest:sesame@", ("user", "password")),
    "an unknown user": ("guest:guest@", "unknown:sesame@", ("user", "password")),
    "an unknown virtual host": ("/%2F", "/nowhere", ("virtual host", "nowhere")),
}


@pytest.mark.parametrize("command", ["start", "run", "check", "publish"])
@pytest.mark.parametrize("case", REFUSALS)
def test_a_broker_that_refuses_is_named_with_the_reason(
    site: Site, rabbitmq: RabbitNode, case: str, command: str
) -> None:
    old, new, told = REFUSALS[case]
    configure(site, old, new)

    refused = site.cli(command, *([queue(site)] if command == "publish" else []), stdin="hello\n")

    assert refused.returncode == FAILED, refused.stderr
    said = refused.stdout + refused.stderr
    assert f"127.0.0.1:{rabbitmq.port}" in said
    assert all(word in said for word in told), said
    log = site.log_path
    for text in (said, log.read_text() if log.exists() else ""):
        assert "sesame" not in text
        assert "Traceback" not in text
    assert site.processes() == []


def test_a_port_where_no_process_listens_is_waited_for_and_named_to_clients_that_cannot_wait(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    site.config.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", site.config.read_text()))

    for command in (("check",), ("publish", queue(site)), ("dead", "list", queue(site))):
        refused = site.cli(*command, stdin="hello\n")
        assert refused.returncode == FAILED
        assert f"127.0.0.1:{port}" in refused.stdout + refused.stderr
        assert "nothing listens there" in refused.stdout + refused.stderr

    late = site.cli("start", "--timeout", "2")
    assert late.returncode == FAILED
    assert re.search(rf"pool mail: connecting amqp://127\.0\.0\.1:{port}/%2F \(nothing listens there", late.stderr)
    site.ok("stop")


def test_ids_and_headers_that_no_copy_can_carry_lose_no_message(site: Site, rabbitmq: RabbitNode) -> None:
    site.config.write_text(site.config.read_text() + 'id_header = "job"\n')
    site.ok("start")
    job = "j" * 1024

    with rabbitmq.channel() as channel:
        for _ in range(2):
            for properties, body in (
                (pika.BasicProperties(headers={"job": job}), b"fail"),
                (pika.BasicProperties(message_id="\x1b[31m\nred" + "x" * 240), b"fail"),
                (pika.BasicProperties(message_id="big", headers={"huge": "h" * 100_000}), b"fail"),
            ):
                channel.basic_publish("", queue(site), body, properties)

    site.wait_for_counter("dead", 3)
    site.wait_for_counter("duplicate", 3)
    assert (
        sorted(run.rsplit(" ", 2)[1:] for run in site.runs() if run.count(" ") >= 2)
        == [["1", "1"]] * 3 + [["1", "2"]] * 3
    )
    dead = [json.loads(line) for line in site.ok("dead", "list", queue(site), "--json").splitlines()]
    assert len(dead) == 3
    assert job in [entry["properties"]["headers"].get("job") for entry in dead]
    eventually(lambda: site.status()["pools"]["mail"]["consumer"]["in_flight"] == 0, "everything is settled")


# ---- what a daemon says of its queues -----------------------------------------------------------------------------


def started_with(site: Site) -> str:
    """All that a start that succeeds says."""
    started = site.cli("start")
    assert started.returncode == 0, started.stderr
    return started.stdout + started.stderr


def test_a_start_that_declares_the_queue_says_how_and_what_publishers_must_do(site: Site, rabbitmq: RabbitNode) -> None:
    started = started_with(site)

    assert f"queue '{queue(site)}' did not exist and was declared" in started
    assert "406" in started
    assert '"queue.declared"' in site.log_path.read_text()
    with rabbitmq.channel() as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker, match="406"):
        channel.queue_declare(queue(site), durable=True)


def test_a_queue_that_drops_messages_is_named_by_check_start_and_status(site: Site, rabbitmq: RabbitNode) -> None:
    with rabbitmq.channel() as channel:
        channel.queue_declare(queue(site), durable=True, arguments={"x-max-length": 10})
    told = "beyond 10 messages"

    assert told in site.cli("check").stdout
    assert told in started_with(site)
    assert told in site.ok("status")
    assert [symptom["name"] for symptom in site.status()["pools"]["mail"]["symptoms"]] == ["queue.unsafe"]
    assert site.status()["pools"]["mail"]["state"] == "ok"


def test_check_warns_of_other_consumers_and_not_of_its_own_daemon(site: Site, rabbitmq: RabbitNode) -> None:
    with rabbitmq.channel() as channel:
        started_with(site)
        assert "beside this daemon" not in site.cli("check").stdout

        channel.basic_consume(queue(site), lambda *_: None)
        assert "has 1 consumer(s) beside this daemon" in site.cli("check").stdout

        site.ok("stop")
        assert "has 1 consumer(s) beside this daemon" in site.cli("check").stdout


def test_a_missing_right_ends_a_start_with_the_command_that_gives_it(site: Site, rabbitmq: RabbitNode) -> None:
    rabbitmq.add_user("copies-nothing", "pw", (".*", "^mail", ".*"))
    configure(site, "guest:guest@", "copies-nothing:pw@")

    checked, started = site.cli("check"), site.cli("start")

    assert (checked.returncode, started.returncode) == (FAILED, FAILED)
    for said in (checked.stdout, started.stderr):
        assert "rabbitmqctl set_permissions -p / copies-nothing '^(mail" in said
        assert "default exchange" in said


# ---- what handlers publish ----------------------------------------------------------------------------------------

PUBLISHES = """
from pathlib import Path

HERE = Path(__file__).parent

def run(message):
    what, _, _ = message.text().partition(" ")
    if what == "infinite":
        message.publish(b"x", routing_key=message.queue + ".out", headers={"ratio": float("inf")})
    elif what == "outsider":
        message.publish(b"x", routing_key=message.queue + ".out", user_id="outsider")
    elif what == "nowhere":
        message.publish(b"x", routing_key="k", exchange="nowhere")
    elif what == "long":
        message.publish(b"x", routing_key="k" * 300)
    else:
        message.publish(message.body, routing_key=message.queue + ".out")
"""


def test_publications_that_cannot_be_sent_fail_their_own_runs_and_no_other(site: Site, rabbitmq: RabbitNode) -> None:
    (site.folder / "site_handler.py").write_text(PUBLISHES)
    configure(site, "workers = 1", "workers = 4")
    with rabbitmq.channel() as channel:
        channel.queue_declare(f"{queue(site)}.out", durable=True)
    site.ok("start")
    bad = ["infinite", "outsider", "nowhere", "long"]
    good = [f"good {number}" for number in range(40)]
    orders = [order for number, order in enumerate(good) for order in ([*bad, order] if number % 10 == 0 else [order])]

    site.ok("publish", queue(site), "--id-prefix", "m", stdin="\n".join(orders) + "\n")

    site.wait_for_counter("done", len(good))
    site.wait_for_counter("dead", 4 * len(bad))
    dead = {
        letter["id"]: letter["reason"] for letter in map(json.loads, dead_letters(site))
    }  # a copy may be there twice
    for told in ("not finite", "user_id property", "no exchange 'nowhere'", "300 bytes"):
        assert len([reason for reason in dead.values() if told in reason]) == 4, dead
    with rabbitmq.channel() as channel:
        found = []
        while (got := channel.basic_get(f"{queue(site)}.out", auto_ack=True))[0] is not None:
            found.append(got[2].decode())
        channel.queue_delete(f"{queue(site)}.out")
    assert set(found) == set(good)
    assert [record for record in site.exits() if record["kind"] == "consumer"] == []
    assert site.status()["pools"]["mail"]["consumer"]["connection"]["opened"] == 2


def dead_letters(site: Site) -> list[str]:
    """The dead letters, as JSON lines."""
    return site.ok("dead", "list", queue(site), "--json").splitlines()
