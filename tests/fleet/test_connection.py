"""The connection to the store against a real PostgreSQL: it never waits in a turn, and comes back after each fault."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.fleet import connection as connections
from supervisor.fleet.connection import Failure
from supervisor.fleet.encoding import (
    Answer,
    Statement,
    bigint,
    byteas,
    digests,
    double,
    ids,
    ints,
    text,
    texts,
    to_bigint,
    to_double,
    to_int,
    uuid,
)
from supervisor.system.posix import readable
from tests.support.database_server import free_port
from tests.support.descriptors import descriptors
from tests.support.fleet import Driven, driven
from tests.support.ledgers import key_of
from tests.support.postgresql import PostgreSQL, running_postgresql
from tests.support.proxy import running_proxy
from tests.support.waiting import eventually

ONE = Statement(b"SELECT 1::int4")
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One that may be killed and stopped, but runs at the end of each test."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def link(server: PostgreSQL) -> Iterator[Driven]:
    with driven("postgres", [(HERE, server.port)]) as link:
        yield link


def is_one(news: Answer | Failure) -> bool:
    return isinstance(news, Answer) and to_int(news.rows[0][0] or b"") == 1


def end_others(server: PostgreSQL) -> None:
    server.ask("", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datid > 0")


# ---- statements ---------------------------------------------------------------------------------------------------


def test_values_of_all_types_arrive_and_return_as_they_were(link: Driven) -> None:
    keys = [key_of(name, content) for name, content in (("a", "x"), ("b", "\x7f" * 8), ("c", "\x00"))] + [b"\xff" * 24]
    sql = b"""SELECT $1::uuid[] = $2::uuid[], $3::int8[] = ARRAY[$4::int8, $5, $6, $7], $8::int4[]::text,
        $9::text[]::text, $10::bytea[]::text, $11::float8, $12::int8, $13::text, $14::uuid, $15::int8 IS NULL"""
    each = b"".join(b"\0\0\0\x10" + key[:16] for key in keys)
    numbers = [bigint(to_bigint(key[16:])) for key in keys]
    given = [ids(keys), ids(keys), digests(keys), *numbers, ints([1, -1, 2**31 - 1])]
    given += [texts(["grüße", "", "a\0b\ud800"]), byteas([b"\0\xff", b""]), double(0.5), bigint(-(2**63))]
    answer = link.ask(Statement(sql, [*given, text("name"), uuid(b"\x12" * 16), bigint(None)]))
    assert isinstance(answer, Answer)
    same, equal, integers, names, notes, half, least, name, id, null = answer.rows[0]
    assert (same, equal, integers) == (b"\1", b"\1", b"{1,-1,2147483647}")
    assert (names or b"").decode() == '{grüße,"",a�b?}'
    assert (notes, to_double(half or b""), to_bigint(least or b"")) == (b'{"\\\\x00ff","\\\\x"}', 0.5, -(2**63))
    assert (name, id, null) == (b"name", b"\x12" * 16, b"\1")
    assert each in (given[0].value or b"")


def test_empty_arrays_are_arrays(link: Driven) -> None:
    sql = b"SELECT cardinality($1) + cardinality($2) + cardinality($3) + cardinality($4) + cardinality($5)"
    answer = link.ask(Statement(sql, [ids([]), digests([]), ints([]), texts([]), byteas([])]))
    assert isinstance(answer, Answer)
    assert to_int(answer.rows[0][0] or b"") == 0


def test_a_refused_statement_tells_its_sqlstate_and_leaves_the_connection(link: Driven) -> None:
    refused = link.ask(Statement(b"SELECT 1/0"))
    assert refused == Failure("22012", "division by zero")
    assert is_one(link.ask(ONE))
    assert link.connection.opened == 1


def test_a_statement_without_rows_is_answered(link: Driven) -> None:
    assert link.ask(Statement(b"SELECT 1 WHERE false")) == Answer([])


def test_the_descriptor_is_quiet_while_there_is_nothing_to_do(link: Driven) -> None:
    assert is_one(link.ask(ONE))
    assert not readable(link.descriptors.fileno(), 0), "the loop would turn for nothing"


# ---- losses -------------------------------------------------------------------------------------------------------


def test_a_terminated_backend_is_replaced_and_the_reason_told(link: Driven, server: PostgreSQL) -> None:
    assert is_one(link.ask(ONE))
    end_others(server)
    link.until(lambda: link.connection.opened == 2, "another connection")
    assert link.connection.failure.sqlstate == "57P01"
    assert is_one(link.ask(ONE))


def test_a_statement_of_a_terminated_backend_has_no_answer_and_may_be_sent_again(
    link: Driven, server: PostgreSQL
) -> None:
    link.connected().send(Statement(b"SELECT pg_sleep(60)::text"))
    eventually(lambda: server.ask("", "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%sleep(60)::text'"), "it runs")
    end_others(server)
    link.until(lambda: not link.connection.up, "the loss")
    assert link.connection.failure.sqlstate == "57P01"
    assert link.news == []
    assert is_one(link.ask(ONE))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_it_comes_back_with_a_server_that_was_ended(link: Driven, server: PostgreSQL, number: signal.Signals) -> None:
    assert is_one(link.ask(ONE))
    server.end(number)
    try:
        link.until(lambda: "refused" in link.connection.failure.text, "a refused attempt")
    finally:
        server.start()
    assert is_one(link.ask(ONE))


def test_a_stopped_server_holds_up_neither_send_nor_turn_and_gets_all_of_a_long_statement(
    link: Driven, server: PostgreSQL
) -> None:
    """Nothing here waits for the server: were one of these calls to block, the test would never reach `cont`."""
    link.connected()
    long = "x" * (16 * 1024 * 1024)
    server.stop_signal()
    try:
        link.connection.send(Statement(b"SELECT length($1)", [text(long)]))
        for _ in range(100):
            link.turn()
        assert link.news == [] and link.connection.up
    finally:
        server.cont()
    link.until(lambda: link.news, "the answer")
    assert link.news == [Answer([((len(long)).to_bytes(4, "big"),)])]


def test_an_answer_that_does_not_come_in_time_ends_the_connection(
    link: Driven, server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    link.connected()
    server.stop_signal()
    try:
        link.connection.send(ONE)
        link.until(lambda: not link.connection.up, "the loss")
        assert "no answer within" in link.connection.failure.text
    finally:
        server.cont()
    monkeypatch.undo()
    link.news.clear()
    assert is_one(link.ask(ONE))


def test_a_server_that_is_stopped_while_the_connection_opens_ends_the_attempt(
    link: Driven, server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECT_S", 0.2)
    server.stop_signal()
    try:
        link.until(lambda: "no connection within" in link.connection.failure.text, "the end of the attempt")
    finally:
        server.cont()
    monkeypatch.undo()
    assert is_one(link.ask(ONE))


def test_resets_at_any_moment_are_survived(server: PostgreSQL) -> None:
    with (
        running_proxy(server.port, amqp=False) as proxy,
        driven("postgres", [(HERE, proxy.port)]) as link,
    ):
        for turns in range(20):
            assert is_one(link.ask(ONE))
            link.connection.send(ONE)
            for _ in range(turns):
                link.turn()
            proxy.reset()
            link.until(lambda: not link.connection.up, "the loss")
            link.news.clear()
        assert is_one(link.ask(ONE))


# ---- where it connects --------------------------------------------------------------------------------------------


def test_the_next_host_is_tried_where_one_refuses(server: PostgreSQL) -> None:
    with driven("postgres", [(HERE, free_port()), (HERE, server.port)]) as link:
        assert is_one(link.ask(ONE))
        assert "refused" in link.connection.failure.text


def test_a_server_that_takes_no_writes_is_left_for_one_that_does(server: PostgreSQL) -> None:
    database = server.new_database()
    with driven(database, [(HERE, server.port)]) as link:
        server.ask("", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        link.until(lambda: "read-only" in link.connection.failure.text, "the refusal")
        server.ask("", f"ALTER DATABASE {database} RESET default_transaction_read_only")
        assert is_one(link.ask(ONE))


def test_a_name_server_that_does_not_answer_holds_up_nothing(server: PostgreSQL) -> None:
    asked, answered = threading.Event(), threading.Event()

    def look(name: str, port: int) -> list[str]:
        asked.set()
        assert answered.wait(60)
        return [HERE]

    with driven("postgres", [("db.example", server.port)], look) as link:
        for _ in range(10):
            link.turn()
        assert asked.wait(20)
        assert not link.connection.up
        answered.set()
        assert is_one(link.ask(ONE))


def test_a_name_that_cannot_be_looked_up_says_so_and_is_looked_up_again(server: PostgreSQL) -> None:
    answers = iter([OSError(-2, "Name or service not known"), UnicodeError("label too long"), None])

    def look(name: str, port: int) -> list[str]:
        error = next(answers)
        if error is not None:
            raise error
        return [HERE]

    with driven("postgres", [("db.example", server.port)], look) as link:
        link.until(lambda: link.connection.failure.text, "a fault")
        assert link.connection.failure.text == "db.example cannot be looked up (Name or service not known)"
        assert is_one(link.ask(ONE))


def test_a_name_server_that_is_away_leaves_the_addresses_that_were_known(
    server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECT_S", 0.5)
    over, calls = threading.Event(), []

    def look(name: str, port: int) -> list[str]:
        calls.append(name)
        if len(calls) > 1:
            assert over.wait(60)
        return [HERE]

    with driven("postgres", [("db.example", server.port)], look) as link:
        for _ in range(3):
            assert is_one(link.ask(ONE))
            link.connection.lose("tried")
        assert is_one(link.ask(ONE))
        assert len(calls) == 2, "one look-up at a time"
        over.set()


# ---- descriptors --------------------------------------------------------------------------------------------------


def test_no_descriptor_is_left_of_any_connection(server: PostgreSQL) -> None:
    before = descriptors()
    over = threading.Event()
    with driven("postgres", [("db.example", server.port)], lambda name, port: [HERE]) as link:
        for _ in range(5):
            assert is_one(link.ask(ONE))
            link.connection.lose("tried")
        assert is_one(link.ask(ONE))
        open_now = descriptors()
        for _ in range(5):
            link.connection.lose("tried")
            assert is_one(link.ask(ONE))
        assert descriptors() == open_now
        link.connection.lose("tried")

    def look(name: str, port: int) -> list[str]:
        assert over.wait(60)
        return [HERE]

    with driven("postgres", [("db.example", server.port)], look) as link:
        link.turn()
    over.set()
    with driven("postgres", [(HERE, server.port)]) as link:
        link.turn()
    eventually(lambda: "store look-up" not in [thread.name for thread in threading.enumerate()], "its thread ends")
    assert descriptors() == before


def test_the_folder_of_a_unix_socket_is_a_host(tmp_path: Path) -> None:
    with driven("postgres", [(str(tmp_path), 5432)]) as link:
        link.until(lambda: link.connection.failure.text, "the failure")
        assert f'"{tmp_path}/.s.PGSQL.5432"' in link.connection.failure.text
