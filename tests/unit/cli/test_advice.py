"""Numbers that are allowed but look wrong together are warned about, one row a doubt."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.cli.advice import advise
from supervisor.config.load import interpret
from supervisor.system.memory import MACHINE, Room

POOL = '[pools.email]\nqueue = "email"\nhandler = "a:b"\nmax_memory = "1MiB"\n'
AMQP = '[broker]\nurl = "amqp://h"\n'
MACHINE_BYTES = 1024**3


def advice(text: str, memory_bytes: int = MACHINE_BYTES, group_bytes: int = 0) -> dict[str, str]:
    rooms = [Room(memory_bytes, memory_bytes, MACHINE), *([Room(group_bytes, 0, "the group")] if group_bytes else [])]
    return dict(advise(interpret(tomllib.loads(text), Path("/etc/preforkd.toml"), {}), rooms))


def limit(count: int) -> str:
    return f"queue_arguments = {{ x-delivery-limit = {count} }}"


@pytest.mark.parametrize("count", [2, 20, 1_000_000])
def test_a_delivery_limit_that_leaves_time_for_copies_is_no_doubt(count: int) -> None:
    assert advice(AMQP + POOL + limit(count)) == {}


@pytest.mark.parametrize("broker", ["", AMQP, '[broker]\nurl = "amqps://h"\ntls = { ca_file = "ca" }\n'])
def test_the_defaults_leave_no_doubt(broker: str) -> None:
    assert advice(broker + POOL) == {}


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (AMQP + "heartbeat = 4\n" + POOL, "broker.heartbeat", "4s: below 5s"),
        (AMQP + "heartbeat = 61\n" + POOL, "broker.heartbeat", "above 60s"),
        (AMQP + 'tls = { ca_file = "ca" }\n' + POOL, "broker.tls", "it is not used"),
        ('[broker]\nurl = "amqps://h"\ntls = { verify = false }\n' + POOL, "broker.tls.verify", "any server may pose"),
        (POOL + "prefetch = 2", "pools.email.prefetch", "2: at most that many of 4 workers"),
        ('[daemon]\nstop_timeout = "20s"\n' + POOL, "pools.email.timeout", "daemon.stop_timeout = 20s"),
        (AMQP + POOL + 'max_timeout = "30m"', "pools.email.max_timeout", "broker.ack_timeout = 30m"),
        ('[ledger]\nkeep = "10m"\n' + POOL, "pools.email.retry_delays", "ledger.keep = 10m"),
        (POOL + 'bindings = [{ exchange = "x" }]', "pools.email.bindings", "has no exchanges"),
        (
            AMQP + POOL + 'bindings = [{ exchange = "x" }]\ndeclare = false',
            "pools.email.bindings",
            "no binding is made",
        ),
        (
            AMQP + POOL + "queue_arguments = { x-consumer-timeout = 60000 }",
            "pools.email.queue_arguments",
            "the broker takes it back before",
        ),
        (AMQP + POOL + limit(0), "pools.email.queue_arguments", "cannot be saved"),
        (AMQP + POOL + limit(1), "pools.email.queue_arguments", "drops a message that comes back twice"),
        (AMQP + POOL + limit(-1), "pools.email.queue_arguments", "dropped the first time it comes back"),
    ],
)
def test_a_doubt_names_its_key_and_what_may_go_wrong(text: str, key: str, said: str) -> None:
    (only,) = advice(text).items()
    assert only[0] == key
    assert said in only[1]


def test_workers_that_do_not_fit_into_memory_are_doubted() -> None:
    text, mib = POOL + 'kill_memory = "2MiB"\n', 1024**2
    assert advice(text, memory_bytes=60 * mib) == {}
    assert advice(text, memory_bytes=60 * mib - 1)["pools"] == (
        "all workers at max_memory need 4MiB (4 x 1MiB), and preforkd's own processes about 56MiB; this machine has "
        "60MiB: lower workers or max_memory, or give it more memory"
    )


def test_the_embedded_queue_has_neither_heartbeat_nor_ack_timeout() -> None:
    assert advice("[broker]\nheartbeat = 1\n" + POOL + 'max_timeout = "5h"') == {}


def memory(workers: int, line: str = "") -> str:
    return f'[pools.email]\nqueue = "email"\nhandler = "a:b"\nworkers = {workers}\n{line}\n'


def test_the_limit_of_a_container_counts_with_our_own_processes() -> None:
    mib = 1024**2
    text = memory(2, 'max_memory = "200MiB"\nkill_memory = "300MiB"')
    assert advice(text, group_bytes=456 * mib) == {}
    said = advice(text, group_bytes=455 * mib)["pools"]
    assert "need 400MiB (2 x 200MiB), and preforkd's own processes about 56MiB; the group has 455MiB" in said


def test_a_tighter_machine_counts_before_a_wide_container() -> None:
    assert "this machine has 1GiB" in advice(memory(4), group_bytes=8 * 1024**3)["pools"]


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("", "pools.email.kill_memory", "1GiB: the group has 512MiB, so the kernel kills first"),
        ("max_memory = 0\nkill_memory = 0", "pools.email.max_memory", "off, like kill_memory: nothing but the kernel"),
    ],
)
def test_limits_that_cannot_work_in_a_container_are_named(line: str, key: str, said: str) -> None:
    assert said in advice(memory(1, line), group_bytes=512 * 1024**2)[key]


def test_limits_that_are_off_are_no_doubt_on_a_machine_without_a_container() -> None:
    assert advice(memory(1, "max_memory = 0\nkill_memory = 0")) == {}
