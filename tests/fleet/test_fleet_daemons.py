"""Whole daemons of one fleet on one RabbitMQ queue, with one store: what each of them has begun, no other one begins.

PREFORKD_SOAK=<seed> draws other faults, and more of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from supervisor.brokers.names import retry_queue
from supervisor.messages.message import Properties, Publication
from tests.support.daemon import send_signal
from tests.support.fleet import made_store, store_url
from tests.support.history import NOTES, Note, Step
from tests.support.postgresql import PostgreSQL, running_postgresql
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

SOAK = os.environ.get("PREFORKD_SOAK", "")
TIMES = 10 if SOAK else 1
MESSAGES = 25  # for each fault
DELAY_S = 0.1
LEASE_S = 30.0
LONGEST_RUN_S = 15.0  # max_timeout, kill_grace and the kernel's margin

POOL = f"""
workers = 3
prefetch = 8
max_attempts = 100
retry_delays = [{DELAY_S}]
timeout = "10s"
max_timeout = "10s"
kill_grace = "2s"
restart_backoff = ["1ms", "50ms"]
restart_intensity = [1000000, "1s"]
"""


class Fleet:
    """Two daemons, as on two hosts, their queue and their store."""

    def __init__(self, node: RabbitNode, server: PostgreSQL, database: str, daemons: list[RabbitDaemon]) -> None:
        self.node, self.server, self.database, self.daemons = node, server, database, daemons
        self.queue = daemons[0].queue
        self.chance = Random(f"fleet {SOAK}")
        self._notes = daemons[0].directory / "notes"

    def send(self, count: int) -> list[str]:
        """Publish so many messages, which last 0 to 80 ms."""
        ids = [f"m{number}" for number in range(count)]
        self.daemons[0].send_all(
            Publication("", self.queue, Properties(message_id=id), f"{self.chance.uniform(0, 0.08):.3f}".encode())
            for id in ids
        )
        return ids

    def send_one(self, id: str, lasts_s: float) -> None:
        """Publish one message."""
        self.daemons[0].send_all([Publication("", self.queue, Properties(message_id=id), f"{lasts_s}".encode())])

    def begin_one(self, id: str, lasts_s: float) -> tuple[Note, RabbitDaemon, RabbitDaemon]:
        """Publish the first message, and wait for its run: its beginning, the daemon that has it, and the other one."""
        self.send_one(id, lasts_s)
        (begun,) = eventually(self.notes, "it has begun", 30.0)
        first, second = self.daemons
        return (begun, first, second) if begun.pid in first.titled(r"worker email/\d+") else (begun, second, first)

    def notes(self) -> list[Note]:
        """All steps of all runs on both hosts."""
        lines = self._notes.read_bytes().splitlines() if self._notes.exists() else []
        return [msgspec.json.decode(line, type=Note) for line in lines]

    def effects(self) -> Counter[str]:
        """How many effects each message has had."""
        return Counter(note.id for note in self.notes() if note.step is Step.EFFECT)

    def is_degraded(self, daemon: RabbitDaemon) -> bool:
        """Whether `status` shows that it cannot work."""
        return bool(eventually(lambda: daemon.pool()["state"] == "degraded", "the pool is degraded", 10.0))

    def settle(self) -> None:
        """Wait until the broker has no message left, and the store none in hand."""
        queues = retry_queue(self.queue, DELAY_S), self.queue
        eventually(
            lambda: not (self.node.unacked() or any(map(self.node.depth, queues)) or self.node.unacked()),
            "all messages are settled",
            60.0,
        )
        eventually(lambda: not self.open(), "the store has no message in hand", 30.0)

    def open(self) -> int:
        """How many messages the store has in hand."""
        ((count,),) = self.server.ask(self.database, "SELECT count(*) FROM preforkd.open")
        return int(str(count))

    def strike(self, faults: int, strikes: list[Callable[[Fleet], None]]) -> list[str]:
        """Send messages; strike in the order of chance as they are done; wait for the end. The ids."""
        ids = self.send(MESSAGES * faults)
        for number in range(faults):
            due = number * MESSAGES
            eventually(lambda due=due: len(self.effects()) >= due, f"{due} messages are done", 60.0)  # type: ignore[misc]
            self.chance.choice(strikes)(self)
        self.settle()
        return ids


def twice_begun(notes: list[Note]) -> list[tuple[str, int, int]]:
    """Runs that began twice: the second one was declared by nothing."""
    begun = Counter((note.id, note.round, note.attempt) for note in notes if note.step is Step.START)
    return [run for run, count in begun.items() if count > 1]


def overlapping(notes: list[Note]) -> list[str]:
    """Messages of which two runs went on at the same time. The runs of one process follow each other."""
    runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for note in notes:
        if note.step is Step.START:
            same = [n for n in notes if (n.id, n.pid, n.attempt) == (note.id, note.pid, note.attempt)]
            runs[note.id].append((note.monotonic_s, max(n.monotonic_s for n in same)))
    return [id for id, spans in runs.items() if any(a[1] > b[0] for a, b in pairwise(sorted(spans)))]


def name_of(daemon: RabbitDaemon) -> str:
    """Its host's."""
    return daemon.directory.name


def at(line: dict[str, Any]) -> float:
    """When a line was logged, in seconds since 1970."""
    return datetime.fromisoformat(line["at"]).timestamp()


def held(daemon: RabbitDaemon, id: str) -> str:
    """What `why` says of a message that another host has in hand; "" while it is not held."""
    said = daemon.cli("why", id).stdout
    return said if "another host of the fleet has it in hand" in said else ""


# ---- faults ---------------------------------------------------------------------------------------------------------


def close_connections(fleet: Fleet) -> None:
    """Each daemon gets some of what the other one's workers run."""
    fleet.node.close_all_connections()


def kill_worker(fleet: Fleet) -> None:
    send_signal(fleet.chance.choice(fleet.daemons).titled(r"worker email/\d+")[:1], signal.SIGKILL)


def kill_consumer(fleet: Fleet) -> None:
    """Its workers go on."""
    send_signal(fleet.chance.choice(fleet.daemons).titled("consumer email"), signal.SIGKILL)


def kill_host(fleet: Fleet) -> None:
    """All of a daemon at one moment; it comes back."""
    daemon = fleet.chance.choice(fleet.daemons)
    daemon.kill_all()
    daemon.start(ready=False)


# ---- the tests ------------------------------------------------------------------------------------------------------


@contextmanager
def running_fleet(folder: Path, node: RabbitNode, server: PostgreSQL) -> Iterator[Fleet]:
    """Nothing of it is left at the end."""
    database = made_store(server)
    with ExitStack() as stack:
        daemons: list[RabbitDaemon] = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            url_file = folder / name / "fleet-url"
            url_file.touch(mode=0o600)
            url_file.write_text(store_url(server.port, database))
            named = ["unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh"]
            options = {
                "program": [*named, sys.executable, "-m", "supervisor"],
                "module": "tests.support.fleet_handlers",
                "environment": {NOTES: folder / "one" / "notes"},
                "more": f'[fleet]\nurl_file = "{url_file}"\nname = "tests"\nlease = "{LEASE_S:g}s"\n',
                "queue": daemons[0].queue if daemons else "",
            }
            daemons.append(stack.enter_context(rabbit_daemon(folder / name, node, POOL, **options)))
        yield Fleet(node, server, database, daemons)


@pytest.fixture
def fleet(lent_rabbitmq: RabbitNode, postgresql: PostgreSQL, tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(tmp_path, lent_rabbitmq, postgresql) as fleet:
        yield fleet


@pytest.mark.timeout(0 if SOAK else 120)
def test_i2_i3_closed_connections_give_no_message_a_second_run(fleet: Fleet) -> None:
    ids = fleet.strike(5 * TIMES, [close_connections])
    assert twice_begun(fleet.notes()) == []
    assert overlapping(fleet.notes()) == []
    assert fleet.effects() == Counter(ids)


@pytest.mark.timeout(0 if SOAK else 120)
def test_i1_i3_i5_kills_of_all_kinds_lose_nothing_and_each_second_run_is_declared(fleet: Fleet) -> None:
    ids = fleet.strike(12 * TIMES, [close_connections, kill_worker, kill_consumer, kill_host])
    assert sorted(fleet.effects()) == sorted(ids)
    assert twice_begun(fleet.notes()) == []
    assert overlapping(fleet.notes()) == []


@pytest.mark.timeout(120)
def test_an_outage_of_the_store_loses_nothing_and_starts_nothing(lent_rabbitmq: RabbitNode, tmp_path: Path) -> None:
    with running_postgresql() as server, running_fleet(tmp_path, lent_rabbitmq, server) as fleet:
        ids = fleet.send(100)
        eventually(lambda: len(fleet.effects()) >= 20, "some are done", 30.0)
        server.end(signal.SIGKILL)
        eventually(lambda: all(daemon.events("fleet.unreachable") for daemon in fleet.daemons), "both say so", 30.0)
        before = fleet.effects()
        server.start()
        fleet.settle()
        assert fleet.effects() == Counter(ids)
        assert len(before) < len(ids), "messages went on without the store"
        assert twice_begun(fleet.notes()) == []


@pytest.mark.timeout(180)
def test_i3_without_the_store_for_half_of_the_lease_nothing_is_taken_and_what_runs_ends_and_is_settled(
    lent_rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    with running_postgresql() as server, running_fleet(tmp_path, lent_rabbitmq, server) as fleet:
        fleet.send_one("long", lasts_s=9.0)
        eventually(lambda: fleet.notes(), "it has begun", 30.0)
        ids = ["long", *fleet.send(60)]
        eventually(lambda: len(fleet.effects()) >= 10, "some are done", 30.0)
        server.stop_signal()
        eventually(lambda: all(daemon.events("fleet.deaf") for daemon in fleet.daemons), "both are deaf", 40.0)
        assert all(fleet.is_degraded(daemon) for daemon in fleet.daemons)
        told = max(at(daemon.events("fleet.deaf")[0]) for daemon in fleet.daemons)
        eventually(lambda: not fleet.node.unacked(), "the broker has back what is not settled", 40.0)
        server.cont()
        fleet.settle()
        assert fleet.effects() == Counter(ids)
        assert twice_begun(fleet.notes()) == []
        restored = min(at(daemon.events("fleet.restored")[0]) for daemon in fleet.daemons)
        begun = [note.wall_s for note in fleet.notes() if note.step is Step.START]
        assert [wall_s for wall_s in begun if told < wall_s < restored] == [], "a run has begun meanwhile"
        assert [
            note for note in fleet.notes() if note.id == "long" and note.step is Step.END and note.wall_s < restored
        ]


@pytest.mark.timeout(120)
def test_i5_the_messages_of_a_lost_host_wait_until_it_is_forgotten_and_are_declared(fleet: Fleet) -> None:
    _, lost, other = fleet.begin_one("m", lasts_s=6.0)
    lost.kill_all()
    why = eventually(lambda: held(other, "m"), "the other host has it, and holds it", 30.0)
    assert f"host {name_of(lost)!r}" in why
    assert len(fleet.notes()) == 1, "it has begun beside the first run"
    assert lost.cli("fleet", "forget", name_of(lost), "--yes").returncode == 1, "it may live: its lease is not over"
    lost.cli_ok("fleet", "forget", name_of(lost), "--yes", "--force")
    fleet.settle()
    (again,) = [note for note in fleet.notes() if note.step is Step.START][1:]
    assert (again.id, again.round, again.attempt) == ("m", 1, 2)
    (failed,) = other.events("message.retried")
    assert (failed["cause"], failed["message_id"]) == ("host_lost", "m")
    lost.start()
    eventually(lambda: lost.is_ready(), "the lost host is back", 30.0)
    assert not [note for note in fleet.notes() if note.attempt == 3]


@pytest.mark.timeout(180)
def test_i5_the_messages_of_a_host_that_is_gone_are_decided_by_another_once_its_runs_must_have_ended(
    fleet: Fleet,
) -> None:
    _, lost, other = fleet.begin_one("m", lasts_s=6.0)
    lost.kill_all()
    killed_s = time.time()
    (fenced,) = eventually(lambda: other.events("fleet.fenced"), "the host is fenced", 60.0)
    assert (fenced["host"], at(fenced) - killed_s > LEASE_S) == (name_of(lost), True)
    (decided,) = eventually(lambda: other.events("fleet.host_lost"), "its messages are decided", 60.0)
    assert at(decided) - killed_s > LEASE_S / 2 + LONGEST_RUN_S, "a run may still have gone on"
    assert other.events("pool.stalled") == [], "what is held for another host is no fault of this one"
    fleet.settle()
    (again,) = [note for note in fleet.notes() if note.step is Step.START][1:]
    assert (again.id, again.round, again.attempt) == ("m", 1, 2)
    (failed,) = other.events("message.retried")
    assert (failed["cause"], failed["message_id"]) == ("host_lost", "m")
    lost.start()
    fleet.settle()
    assert len([note for note in fleet.notes() if note.step is Step.START]) == 2


@pytest.mark.timeout(180)
def test_i3_a_host_that_stood_still_for_too_long_runs_no_instruction_of_a_handler_more(fleet: Fleet) -> None:
    begun, stopped, other = fleet.begin_one("m", lasts_s=8.0)
    pids = stopped.processes()
    send_signal(pids, signal.SIGSTOP)
    eventually(lambda: other.events("fleet.host_lost"), "its messages are decided", 90.0)
    eventually(lambda: [note for note in fleet.notes() if note.attempt == 2], "the message runs again", 30.0)
    send_signal(pids, signal.SIGCONT)
    fleet.settle()
    assert [note.step for note in fleet.notes() if note.pid == begun.pid] == [Step.START], "the first run went on"
    assert fleet.effects() == Counter(["m"])
    died = eventually(lambda: stopped.exits(message_id="m"), "the death is on record", 30.0)
    assert [(each["cause"], each["run"]) for each in died] == [("timeout", "in_doubt")]
