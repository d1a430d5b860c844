"""Facts about two runs of one message at the same time: the second waits in its insert, and then it knows."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from supervisor import Message
from supervisor.inbox import InboxBusy
from supervisor.inbox.finding import connection_of
from supervisor.inbox.waiting import bounded_wait
from tests.support.children import snippet
from tests.support.held_line import held_line
from tests.support.inbox_ways import Place, Plain, ServerPlace, Use, Way, make_way
from tests.support.waiting import eventually

Attempt = Callable[..., Message]

WAITING = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name}'",
    "mysql": "SELECT 1 FROM information_schema.global_status"
    " WHERE variable_name = 'Innodb_row_lock_current_waits' AND variable_value > 0",
}
"""Finds a transaction that waits for a lock. SQLite has no such view: its writers wait for the whole file. MariaDB's
table `innodb_trx` is a copy, which is as old as it is while readers come more often than each 0.1 s."""


class Limit:
    """A run with so much time left."""

    is_over = False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def remaining_s(self) -> float:
        return self._seconds

    def extend(self, seconds: float) -> None: ...


def waits(place: Place) -> bool:
    """Whether a transaction waits for a lock now."""
    return isinstance(place, ServerPlace) and bool(
        place.server.ask("", WAITING[place.dialect.name].format(name=place.name))
    )


@contextmanager
def running(way: Way, message: Message) -> Iterator[Future[bool]]:
    """Another run of the message in a thread, which commits; it has come to its insert, or as near as can be told."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(run, way, message)
        if isinstance(way.place, ServerPlace):
            eventually(lambda: answer.done() or waits(way.place), "the second run waits in its insert")
            assert not answer.done(), answer.exception()
        yield answer


def run(way: Way, message: Message) -> bool:
    """A whole run, in the thread of its connection."""
    with way.use() as use:
        with use.once(message) as first:
            if first:
                use.effect(message)
        use.commit()
        return bool(first)


def begin(use: Use, message: Message) -> None:
    """The block of a run, without its commit."""
    with use.once(message) as first:
        assert first
        use.effect(message)
        message.publish(b"x", routing_key="audit")


def test_the_second_run_waits_and_learns_that_the_first_has_committed(way: Way, attempt: Attempt) -> None:
    one, two = attempt(), attempt()
    with way.use() as use:
        begin(use, one)
        with running(way, two) as answer:
            use.commit()
            assert answer.result(20) is False
    assert way.place.effects(one.id) == 1
    assert two.publications == one.publications


def test_the_second_run_waits_and_does_what_the_first_has_rolled_back(way: Way, attempt: Attempt) -> None:
    one, two = attempt(), attempt()
    with way.use() as use:
        begin(use, one)
        with running(way, two) as answer:
            use.rollback()
            assert answer.result(20) is True
    assert way.place.effects(one.id) == 1


SETTING = {"postgresql": "SELECT current_setting('lock_timeout')", "mysql": "SELECT @@innodb_lock_wait_timeout"}


def setting(use: Use, place: Place) -> object:
    """The server's bound of a wait, as this connection has it."""
    cursor = use.db.cursor()
    cursor.execute(SETTING[place.dialect.name])
    (row,) = cursor.fetchall()
    return next(iter(row.values()))


@pytest.mark.parametrize("name", ["psycopg", "psycopg2", "pymysql", "mysqlclient"])
def test_a_wait_is_bounded_and_the_users_setting_is_back(
    name: str, request: pytest.FixtureRequest, attempt: Attempt
) -> None:
    way = make_way(request, name)
    one, two, three = attempt(), attempt(limit=Limit(0.4)), attempt(limit=Limit(0.4))
    with way.use() as use, way.use() as other:
        before = setting(other, way.place)
        other.rollback()
        begin(use, one)
        with pytest.raises(InboxBusy) as raised, other.once(two):
            pass
        other.rollback()
        assert "another transaction holds" in raised.value.reason
        assert "InboxBusy" in two.inbox_run().fault()
        assert setting(other, way.place) == before
        use.commit()
        with other.once(three) as first:
            assert setting(other, way.place) == before, "the handler's own statements have its own bound"
        assert not first


@pytest.mark.parametrize(
    ("name", "statement", "kept"),
    [("psycopg", "SET lock_timeout = '50ms'", "50ms"), ("pymysql", "SET SESSION innodb_lock_wait_timeout = 1", 1)],
)
def test_a_smaller_bound_of_the_user_is_kept(
    name: str, statement: str, kept: object, request: pytest.FixtureRequest
) -> None:
    way = make_way(request, name)
    with way.use() as use:
        use.run(statement)
        with bounded_wait(connection_of(use.db, None, "test"), 10):
            assert setting(use, way.place) == kept
        assert setting(use, way.place) == kept


def test_sqlite_waits_for_its_own_timeout(sqlite_place: Place, attempt: Attempt) -> None:
    with ExitStack() as stack:
        uses = [Plain(sqlite3.connect(sqlite_place.path, timeout=0.05)) for _ in range(2)]  # type: ignore[attr-defined]
        for use in uses:
            stack.callback(use.close)
        begin(uses[0], attempt())
        with pytest.raises(InboxBusy, match="locked"), uses[1].once(attempt()):
            pass


ISOLATION = {
    "psycopg": "SET TRANSACTION ISOLATION LEVEL {}",
    "pymysql": "SET SESSION TRANSACTION ISOLATION LEVEL {}",
}


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("name", ISOLATION)
def test_a_snapshot_older_than_the_first_commit_never_gives_a_second_effect(
    name: str, level: str, request: pytest.FixtureRequest, attempt: Attempt
) -> None:
    way = make_way(request, name)
    one = attempt()
    with way.use() as use, way.use() as other:
        other.run(ISOLATION[name].format(level))
        other.run("SELECT count(*) FROM effects")  # takes the snapshot
        if level == "SERIALIZABLE" and name == "pymysql":
            other.rollback()  # its reads lock, so that the first run could not write
            other.run("SELECT 1")
        begin(use, one)
        use.commit()
        answers = []
        while len(answers) < 3 and False not in answers:
            try:
                with other.once(two := attempt()) as first:
                    assert not first
                answers.append(first)
            except InboxBusy:
                answers.append(None)
                other.rollback()
    expected = [None, False] if name == "psycopg" and level != "READ COMMITTED" else [False]
    assert answers == expected, (
        "PostgreSQL refuses the insert, and the next attempt knows; MariaDB reads the row as it is"
    )
    assert two.publications == one.publications
    assert way.place.effects(one.id) == 1


def test_mariadbs_isolation_of_snapshots_is_a_retry(request: pytest.FixtureRequest, attempt: Attempt) -> None:
    way = make_way(request, "pymysql")
    one = attempt()
    with way.use() as use, way.use() as other:
        other.run("SET SESSION innodb_snapshot_isolation = ON")
        other.run("SELECT count(*) FROM effects")
        begin(use, one)
        use.commit()
        with pytest.raises(InboxBusy), other.once(attempt()):
            pass
        other.rollback()
        with other.once(attempt()) as first:
            assert not first


# ---- a client that dies ---------------------------------------------------------------------------------------------

CLIENT = """
import signal, sys
from supervisor import Message
from supervisor.inbox import once
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
kind, port, database, id, key = sys.argv[1:]
if kind == "postgresql":
    import psycopg
    db = psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname={database}")
else:
    import pymysql
    db = pymysql.connect(host="127.0.0.1", port=int(port), user="root", database=database)
message = Message(b"", id=id, key=bytes.fromhex(key))
with once(message, db):
    db.cursor().execute(f"INSERT INTO effects VALUES ('{id}')")
    message.publish(b"x", routing_key="audit")
print("open", flush=True)
signal.sigwait([signal.SIGUSR1])
db.commit()
"""


@pytest.mark.parametrize("commits", [True, False], ids=["commit on its way", "no commit"])
@pytest.mark.parametrize("name", ["psycopg", "pymysql"])
def test_a_run_waits_for_the_transaction_of_a_dead_client_and_then_knows(
    name: str, commits: bool, request: pytest.FixtureRequest, attempt: Attempt
) -> None:
    """The client is killed, and its server has not noticed: the commit may still arrive, or not."""
    way = make_way(request, name)
    one, two = attempt(), attempt()
    place = way.place
    assert isinstance(place, ServerPlace)
    with held_line(place.server.port) as line:
        words = (place.dialect.name, str(line.port), place.name, one.id, one.key.hex())
        with snippet(CLIENT, *words) as dying:
            assert dying.line() == "open"
            line.hold()
            if commits:
                os.kill(dying.pid, signal.SIGUSR1)
                eventually(lambda: line.held_bytes, "the commit has left the client")
            dying.kill()
        with running(way, two) as answer:
            line.release()
            assert answer.result(20) is not commits
    assert place.effects(one.id) == 1
    assert [publication.body for publication in two.publications] == ([b"x"] if commits else [])
