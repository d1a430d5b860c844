"""The main job on a real RabbitMQ: whatever workers do, the connection stays, and each message is done exactly once."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from supervisor.brokers.amqp.messages import EncodedProperties
from supervisor.messages.message import Properties
from tests.support.rabbit_daemon import HEARTBEAT_S, RabbitDaemon, bystander, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.sockets import unread_bytes
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

RESTLESS = 'restart_backoff = ["10ms", "20ms"]\nrestart_intensity = [1000, "1s"]\n'
"""Dying workers are replaced as fast as they die."""


# ---- connections --------------------------------------------------------------------------------------------------

DEADLY = [
    ("kill", (signal.SIGSEGV,)),
    ("kill", (signal.SIGKILL,)),
    ("leave", (0,)),
    ("leave_hard", (70,)),
    ("sleep", (1000,)),  # until its own timer ends it
    ("hang_in_c", ()),  # until the master kills it
]


def test_no_death_of_a_worker_touches_connections_or_channels(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    pool = 'workers = 4\nmax_attempts = 1\nmax_messages = 5\ntimeout = "500ms"\nkill_grace = "200ms"\n' + RESTLESS
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        orders = [under_test.order(do, *words, message_id=f"{do}-{n}") for n in range(5) for do, words in DEADLY]
        orders += [under_test.order("nothing", message_id=f"good-{n}") for n in range(50)]
        before = under_test.lines()
        under_test.send_all(orders)
        under_test.wait_counted(dead=30, timeout_s=60)
        under_test.wait_done(*(f"good-{n}" for n in range(50)))
        idle = [worker["pid"] for worker in under_test.pool()["workers"] if worker["pid"]]
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: {exit_["pid"] for exit_ in under_test.exits()} >= set(idle), "the killed are on record")

        assert (under_test.wires(), under_test.channels()) == before
        assert [wire.client for wire in before[0]] in (TWO, TWO[::-1])
        assert under_test.pool()["consumer"]["connection"]["opened"] == 2
        causes = Counter(exit_["cause"] for exit_ in under_test.exits())
        assert (causes["crash"], causes["unexpected_exit"], causes["timeout"]) == (10, 5, 10)
        assert causes["killed"] >= 5
        assert causes["recycled"] >= 1


TWO = ["preforkd consumer email", "preforkd publisher email"]


def test_a_blocked_handler_never_costs_the_connection(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """In Python, in C with the interpreter's lock, and stopped: each for four heartbeats, twice what a broker bears."""
    with rabbit_daemon(tmp_path, rabbitmq, 'workers = 3\ntimeout = "60s"\nprefetch = 3') as under_test:
        os.mkfifo(under_test.marks / "gil")
        before = under_test.lines()
        with bystander(rabbitmq) as given_up:
            under_test.send("sleep", 4 * HEARTBEAT_S, message_id="asleep")
            under_test.send("hold_the_gil", "gil", message_id="in-c")
            under_test.send("until", "awake", message_id="stopped")
            stopped = under_test.pid_running("stopped")
            under_test.pid_running("in-c")
            os.kill(stopped, signal.SIGSTOP)
            under_test.wait_done("asleep")
            eventually(given_up, "the broker has given up a client that was silent for so long")
        under_test.release("awake")
        os.kill(stopped, signal.SIGCONT)
        os.close(os.open(under_test.marks / "gil", os.O_WRONLY))
        under_test.wait_done("in-c", "stopped")
        eventually(under_test.settled, "all three are acked")

        assert (under_test.wires(), under_test.channels()) == before
        assert sorted(under_test.marked("done")) == ["asleep", "in-c", "stopped"]
        assert [under_test.runs(message_id) for message_id in ("asleep", "in-c", "stopped")] == [[1], [1], [1]]
        under_test.wait_counted(done=3, delivered=3)


# ---- innocents ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_an_attempt_only_of_the_message_it_ran(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """Two quick messages first, so that there is read-ahead: the victim holds innocents when it is killed."""
    pool = 'workers = 1\nprefetch = 50\ntimeout = "30s"\nretry_delays = ["100ms"]\n'
    with rabbit_daemon(tmp_path, rabbitmq, pool) as under_test:
        orders = [under_test.order("nothing", message_id=f"m{n}") for n in range(50)]
        orders[2] = under_test.order("until", "awake", message_id="m2")
        under_test.send_all(orders)
        victim = under_test.pid_running("m2")
        eventually(lambda: under_test.pool()["consumer"]["in_flight"] == 48, "all others are in the consumer's hands")
        os.kill(victim, signal.SIGKILL)
        under_test.release("awake")
        names = [f"m{n}" for n in range(50)]
        under_test.wait_done(*names)
        eventually(under_test.settled, "everything is acked")

        assert {name: under_test.runs(name) for name in names} == {name: [1] for name in names} | {"m2": [1, 2]}
        assert sorted(under_test.marked("done")) == sorted(names)
        record = under_test.exit(cause="killed")
        assert (record["pid"], record["message_id"], record["attempt"]) == (victim, "m2", 1)
        under_test.wait_counted(done=50, failed=1, retried=1)


# ---- messages without an id ------------------------------------------------------------------------------------------


def test_of_two_runs_of_a_message_without_an_id_the_later_one_is_told(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """A worker has it unbegun behind a long run when the consumer dies; another one could run what comes back."""
    with rabbit_daemon(tmp_path, rabbitmq) as under_test:
        under_test.send_all(under_test.order("nothing", message_id=f"quick-{n}") for n in range(20))
        under_test.wait_counted(done=20)
        bare = msgspec.structs.replace(under_test.order("warned"), properties=Properties())
        worker = under_test.worker()["pid"]
        os.kill(worker, signal.SIGSTOP)
        under_test.send("until", "released", message_id="long")
        long_bytes = eventually(lambda: unread_bytes(worker), "the long one is at the worker")
        under_test.send_all([bare])
        eventually(lambda: unread_bytes(worker) > long_bytes, "the other one is there, too")
        os.kill(worker, signal.SIGCONT)  # it reads both at once, and begins the long one
        under_test.pid_running("long")
        os.kill(under_test.pool()["consumer"]["pid"], signal.SIGKILL)
        under_test.ask("scale", pool="email", workers=2)
        under_test.send("nothing", message_id="next")
        under_test.wait_done("next")
        under_test.release("released")
        eventually(under_test.settled, "everything is acked")

        assert under_test.marked("warned") == ["False", "True"]


# ---- odd messages -------------------------------------------------------------------------------------------------


def _field(name: str, kind: bytes, *form: object) -> bytes:
    """One entry of an AMQP field table, written by hand: nothing of ours is asked how."""
    layout, *values = form
    data = layout if isinstance(layout, bytes) else struct.pack(str(layout), *values)
    return bytes([len(name)]) + name.encode() + kind + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


TABLES = {
    "plain": b"",
    "floats": _field("double", b"d", ">d", 0.1) + _field("single", b"f", ">f", 1.5) + _field("huge", b"d", ">d", 1e308),
    "times": _field("at", b"T", ">Q", 1_700_000_000) + _field("in-ms", b"T", ">Q", 1_700_000_000_000),
    "decimals": _field("price", b"D", ">BI", 2, 1999) + _field("zeros", b"D", ">BI", 3, 1500),
    "integers": _field("tiny", b"b", ">b", -5) + _field("long", b"l", ">q", -(2**62)) + _field("short", b"s", ">h", -9),
    "bytes": _field("text", b"S", _long(b"\xff\xfe no text")) + _field("binary", b"x", _long(b"\x00\x01")),
    "nested": _field(
        "table",
        b"F",
        _long(_field("inner", b"F", _long(_field("deep", b"d", ">d", 2.5))) + _field("none", b"V", b"")),
    )
    + _field("array", b"A", _long(b"I" + struct.pack(">i", 7) + b"S" + _long(b"seven") + b"t\x01")),
}

ODD_BODIES = {"not-text": b"\xff\xfe\x00\x80", "empty": b"", "large": bytes(range(256)) * (1 << 16)}


def _properties(message_id: str, table: bytes) -> EncodedProperties:
    """headers, delivery_mode 2 and message_id: the flags of AMQP 0-9-1, 4.2.6.1."""
    flags = 1 << 13 | 1 << 12 | 1 << 7
    pieces = [struct.pack(">H", flags), _long(table), b"\x02", bytes([len(message_id)]) + message_id.encode()]
    return EncodedProperties(b"".join(pieces))


def test_odd_messages_go_through_retry_and_dead_letters_unharmed(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    messages = {f"headers-{name}": (table, b"{}") for name, table in TABLES.items()}
    messages |= {f"body-{name}": (b"", body) for name, body in ODD_BODIES.items()}
    pool = 'workers = 2\nmax_attempts = 2\nretry_delays = ["100ms"]'
    with rabbit_daemon(tmp_path, rabbitmq, pool, handler="odd") as under_test:
        with rabbitmq.channel() as channel:
            channel.confirm_delivery()
            for message_id, (table, body) in messages.items():
                channel.basic_publish("", under_test.queue, body, _properties(message_id, table), mandatory=True)
        under_test.wait_counted(dead=len(messages))

        listed = [
            json.loads(line) for line in under_test.cli_ok("dead", "list", under_test.queue, "--json").splitlines()
        ]
        assert sorted(line["id"] for line in listed) == sorted(messages)
        assert {(line["cause"], line["attempts"]) for line in listed} == {("failed", 2)}
        assert all(message_id in under_test.cli_ok("dead", "list", under_test.queue) for message_id in messages)
        _shown_in_full(under_test, {message_id: body for message_id, (_table, body) in messages.items()})

        under_test.cli_ok("dead", "retry", under_test.queue, "--all")
        under_test.wait_counted(done=len(messages))
        eventually(under_test.settled, "the queue is empty")
        assert rabbitmq.depth(f"{under_test.queue}.dead") == 0
        _seen_alike(under_test, set(messages))


def _shown_in_full(under_test: RabbitDaemon, bodies: dict[str, bytes]) -> None:
    lines = under_test.cli_ok("dead", "show", under_test.queue, *bodies, "--json").splitlines()
    shown = {line["id"]: line for line in map(json.loads, lines)}
    for message_id, body in bodies.items():
        line = shown[message_id]
        assert body == (base64.b64decode(line["body_base64"]) if "body_base64" in line else line["body"].encode())
        assert line["properties"]["headers"]["x-preforkd-stack"]
    assert under_test.cli_ok("dead", "show", under_test.queue, *bodies)


def _seen_alike(under_test: RabbitDaemon, message_ids: set[str]) -> None:
    """Every run of a message, in whatever round and attempt, saw the same."""
    seen: dict[str, dict[tuple[int, int], str]] = {}
    for message_id, round_, attempt, what in map(json.loads, under_test.marked("seen")):
        seen.setdefault(message_id, {})[round_, attempt] = what
    assert set(seen) == message_ids
    for message_id, runs in seen.items():
        assert list(runs) == [(1, 1), (1, 2), (2, 1)], message_id
        assert len(set(runs.values())) == 1, "\n".join(runs.values())


def test_what_a_broker_would_act_on_or_refuse_is_seen_alike_in_every_run(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    odd_id = b"\xff\xfe" * 32
    death = _field("x-death", b"A", _long(b"F" + _long(_field("count", b"l", ">q", 7))))
    headers = death + _field("CC", b"A", _long(b"S" + _long(b"nowhere"))) + _field("x-delivery-count", b"l", ">q", 5)
    flags = 1 << 13 | 1 << 12 | 1 << 8 | 1 << 7 | 1 << 4  # headers, delivery_mode, expiration, message_id, user_id
    values = [_long(headers), b"\x01", b"\x0a3600000000", bytes([len(odd_id)]) + odd_id, b"\x05guest"]
    pool = 'workers = 1\nmax_attempts = 2\nretry_delays = ["100ms"]'
    with rabbit_daemon(tmp_path, rabbitmq, pool, handler="odd") as under_test:
        with rabbitmq.channel() as channel:
            properties = EncodedProperties(b"".join([struct.pack(">H", flags), *values]))
            channel.basic_publish("", under_test.queue, b"{}", properties)
        under_test.wait_counted(dead=1)
        under_test.cli_ok("dead", "retry", under_test.queue, "--all")
        under_test.wait_counted(done=1)
        (message_id,) = {json.loads(line)[0] for line in under_test.marked("seen")}
        assert message_id == odd_id.decode("utf-8", "backslashreplace")
        _seen_alike(under_test, {message_id})
        seen = under_test.marked("seen")[0]
        assert all(word in seen for word in ("x-death", "'CC'", "3600000000", "user_id='guest'", "delivery_mode=1"))
