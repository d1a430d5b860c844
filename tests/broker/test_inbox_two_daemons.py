"""Two daemons on one queue, as on two hosts: neither knows of the other's ledger. Their handlers share an inbox.

Under load, workers, consumers and whole daemons are killed, and the broker closes all connections. PREFORKD_SOAK=<seed>
draws other faults, and more of them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from supervisor.brokers.names import dead_queue, parked_queue, retry_queue
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s
from tests.support.daemon import send_signal
from tests.support.inbox_handlers import AUDIT_QUEUE, DATABASES
from tests.support.inbox_site import Database, new_database
from tests.support.postgresql import PostgreSQL
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

SOAK = os.environ.get("PREFORKD_SOAK", "")
FAULTS = 160 if SOAK else 16
MESSAGES = 15 * FAULTS
DELAY_S = 0.1

POOL = f"""
workers = 3
prefetch = 6
max_attempts = 100
retry_delays = [{DELAY_S}]
timeout = "30s"
on_crash = "inbox"
restart_backoff = ["1ms", "50ms"]
restart_intensity = [1000000, "1s"]
"""


class Pair:
    """Two daemons, their queue and their database."""

    def __init__(self, node: RabbitNode, database: Database, daemons: list[RabbitDaemon]) -> None:
        self.node, self.database, self.daemons = node, database, daemons
        self.queue = daemons[0].queue

    def send(self, count: int) -> list[str]:
        """Publish so many messages. Of every third one the first worker dies once its effect is committed; every fifth
        one lasts long enough to be given to the other daemon meanwhile."""
        ids = [f"m{number}" for number in range(count)]
        orders = [
            {"lasts_s": 0.02 if number % 5 else 0.4, "deeds": [] if number % 3 else ["kill committed"]}
            for number in range(count)
        ]
        self.daemons[0].send_all(
            Publication("", self.queue, Properties(message_id=id), json.dumps(order).encode())
            for id, order in zip(ids, orders, strict=True)
        )
        return ids

    def done(self) -> int:
        """How many messages have had their effect."""
        ((count,),) = self.database.ask("SELECT count(DISTINCT id) FROM effects")
        return int(count)

    def is_over(self) -> bool:
        """Whether the broker has no message left that is to be run. Messages move from one look to the next one."""
        queues = retry_queue(self.queue, DELAY_S), self.queue
        return not (self.node.unacked() or any(map(self.node.depth, queues)) or self.node.unacked())

    def effects(self) -> dict[str, list[str]]:
        """The nonces of all effects, by message."""
        found: dict[str, list[str]] = defaultdict(list)
        for id, nonce in self.database.ask("SELECT id, nonce FROM effects"):
            found[id].append(nonce)
        return found

    def published(self) -> dict[str, set[str]]:
        """The nonces that handlers have published, by message."""
        found: dict[str, set[str]] = defaultdict(set)
        with self.node.channel() as channel:
            while (got := channel.basic_get(AUDIT_QUEUE, auto_ack=True))[0] is not None:
                found[got[1].message_id].add(got[2].decode())
        return found

    def letters(self) -> int:
        """How many messages were given up."""
        return sum(map(self.node.depth, (dead_queue(self.queue), parked_queue(self.queue))))


# ---- faults ---------------------------------------------------------------------------------------------------------


def kill_worker(pair: Pair, chance: Random) -> None:
    """One of a daemon's, wherever it is in its run."""
    workers = chance.choice(pair.daemons).titled(r"worker email/\d+")
    send_signal(workers[:1], signal.SIGKILL)


def kill_consumer(pair: Pair, chance: Random) -> None:
    """The broker gives its messages to the other daemon, while its workers go on."""
    send_signal(chance.choice(pair.daemons).titled("consumer email"), signal.SIGKILL)


def close_connections(pair: Pair, chance: Random) -> None:
    """Each daemon may get what the other one's workers run."""
    pair.node.close_all_connections()


def kill_master(pair: Pair, chance: Random) -> None:
    """Its workers finish what they run."""
    daemon = chance.choice(pair.daemons)
    daemon.kill()
    daemon.start(ready=False)


def kill_host(pair: Pair, chance: Random) -> None:
    """All of a daemon at one moment."""
    daemon = chance.choice(pair.daemons)
    daemon.kill_all()
    daemon.start(ready=False)


STRIKES: list[tuple[Callable[[Pair, Random], None], int]] = [
    (kill_worker, 3),
    (kill_consumer, 5),
    (close_connections, 4),
    (kill_master, 2),
    (kill_host, 2),
]
"""What is done, and how often of sixteen times."""


def drawn(chance: Random) -> list[Callable[[Pair, Random], None]]:
    """All of them in the order of chance."""
    strikes = [strike for strike, share in STRIKES for _ in range(share * FAULTS // 16)]
    chance.shuffle(strikes)
    return strikes


# ---- the test -------------------------------------------------------------------------------------------------------


@contextmanager
def running_pair(folder: Path, node: RabbitNode, server: PostgreSQL) -> Iterator[Pair]:
    """Both have the same queue; nothing of them is left at the end."""
    database = new_database("postgresql", folder, server)
    options = {
        "module": "tests.support.inbox_handlers",
        "environment": {DATABASES: json.dumps([(database.kind, database.place)])},
    }
    with ExitStack() as stack:
        with node.channel() as channel:
            channel.queue_declare(AUDIT_QUEUE, durable=True)
        stack.callback(delete_audit_queue, node)
        for name in ("one", "two"):
            (folder / name).mkdir()
        one = stack.enter_context(rabbit_daemon(folder / "one", node, POOL, **options))
        two = stack.enter_context(rabbit_daemon(folder / "two", node, POOL, queue=one.queue, **options))
        yield Pair(node, database, [one, two])


def delete_audit_queue(node: RabbitNode) -> None:
    """On a connection of its own: those from before were closed."""
    with node.channel() as channel:
        channel.queue_delete(AUDIT_QUEUE)


@pytest.mark.timeout(0 if SOAK else 120)
def test_two_daemons_with_one_queue_and_one_inbox_have_one_effect_of_each_message_whatever_is_killed(
    lent_rabbitmq: RabbitNode, postgresql: PostgreSQL, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance, began_s = Random(f"two daemons {SOAK}"), monotonic_s()
    with running_pair(tmp_path, lent_rabbitmq, postgresql) as pair:
        ids = pair.send(MESSAGES)
        for number, strike in enumerate(drawn(chance)):
            due = number * MESSAGES // FAULTS
            eventually(lambda due=due: pair.done() >= due, f"{due} messages have had their effect", 60.0)  # type: ignore[misc]
            strike(pair, chance)
        eventually(pair.is_over, "all messages are settled", 60.0)
        effects, published = pair.effects(), pair.published()
        record_property("seconds", round(monotonic_s() - began_s))
        sys.stdout.write(f"{len(ids)} messages, {FAULTS} faults, {monotonic_s() - began_s:.0f} s\n")
        assert {id: nonces for id, nonces in effects.items() if len(nonces) != 1} == {}, "a second effect"
        assert [id for id in ids if id not in effects] == [], "without an effect"
        assert [id for id in ids if published[id] != set(effects[id])] == [], "without its publication"
        assert pair.letters() == 0
