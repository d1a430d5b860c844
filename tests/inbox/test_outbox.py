"""The outbox on real databases: it publishes what was committed, nothing else, and not before its time."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from supervisor.brokers.embedded.admin import EmbeddedAdmin
from supervisor.client import Client, InvalidMessage, TimedOut, Unroutable
from supervisor.outbox import OutboxError, put, relay
from supervisor.outbox.tables import TABLES
from supervisor.system.clock import wall_s
from tests.support.inbox_ways import InDjango, Use, Way, make_way
from tests.support.rabbitmq import free_port
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedAdmin]:
    """An embedded queue, which the clients of these tests publish to."""
    folder = tmp_path / "state"
    (folder / "embedded").mkdir(parents=True)
    with EmbeddedAdmin(str(folder)) as admin:
        admin.ensure_queue("orders")
        yield admin


@pytest.fixture
def client(broker: EmbeddedAdmin, tmp_path: Path) -> Iterator[Client]:
    with Client(f"embedded:{tmp_path / 'state'}") as client:
        yield client


def arrived(broker: EmbeddedAdmin) -> list[str]:
    """The ids of messages that have arrived since the last call, in order."""
    found = broker.take("orders", 1000)
    for one in found:
        broker.drop(one)
    return [str(one.properties.message_id) for one in found]


def emptied(way: Way) -> Way:
    """The way, with an empty outbox."""
    for statement in TABLES[way.place.dialect.name].make:
        way.place.ask(statement)
    way.place.ask("DELETE FROM preforkd_outbox")
    return way


def in_outbox(way: Way) -> int:
    ((count,),) = way.place.ask("SELECT count(*) FROM preforkd_outbox")
    assert isinstance(count, int)
    return count


def given(use: Use) -> dict[str, Any]:
    """The connection, as `put` and `relay` take it."""
    return {"db": None, "using": use.alias} if isinstance(use, InDjango) else {"db": use.db}


def test_what_is_committed_is_published_once_in_order_and_what_is_rolled_back_is_not(
    way: Way, client: Client, broker: EmbeddedAdmin
) -> None:
    emptied(way)
    ids = [f"{uuid4().hex}-{number}" for number in range(3)]
    with way.use() as use:
        for message_id in ids[:2]:
            assert put(**given(use), routing_key="orders", body=b"x", message_id=message_id) == message_id
        use.commit()
        put(**given(use), routing_key="orders", body=b"x", message_id=ids[2])
        use.rollback()
        relayed = relay(**given(use), client=client)
        assert (relayed.published, relayed.failed) == (2, ())
        assert arrived(broker) == ids[:2]
        assert relay(**given(use), client=client, after=relayed.last) == (0, (), 0)
        use.commit()
    assert in_outbox(way) == 0


def test_properties_and_headers_arrive_as_they_were_given(
    dialect_way: Way, client: Client, broker: EmbeddedAdmin
) -> None:
    emptied(dialect_way)
    with dialect_way.use() as use:
        put(use.db, "orders", "é", headers={"half": 0.5, "n": [1, None]}, priority=3, expires_s=60)
        use.commit()
        relay(use.db, client)
        use.commit()
    (found,) = broker.take("orders", 1)
    assert found.body == "é".encode()
    headers = dict(found.properties.headers or {})
    assert headers.pop("x-preforkd-expires") >= (found.properties.timestamp or 0) + 59
    assert (headers, found.properties.priority) == ({"half": 0.5, "n": [1, None]}, 3)


def test_a_delayed_row_is_published_once_its_time_has_come_and_holds_up_no_later_one(
    way: Way, client: Client, broker: EmbeddedAdmin
) -> None:
    emptied(way)
    with way.use() as use:
        put(**given(use), routing_key="orders", body=b"", message_id="in a year", delay_s=365 * 86_400)
        put(**given(use), routing_key="orders", body=b"", message_id="now")
        use.commit()
        assert relay(**given(use), client=client).published == 1
        use.commit()
        assert arrived(broker) == ["now"]
        due_s = wall_s() + 0.5
        put(**given(use), routing_key="orders", body=b"", message_id="soon", delay_s=0.5, expires_s=60)
        use.commit()
        eventually(lambda: _relayed_one(use, client), "its time has come")
    assert wall_s() >= due_s
    (found,) = broker.take("orders", 10)
    assert found.properties.message_id == "soon"
    assert int(due_s) <= (found.properties.timestamp or 0) <= wall_s()
    assert dict(found.properties.headers or {})["x-preforkd-expires"] <= wall_s() + 61
    assert in_outbox(way) == 1


def _relayed_one(use: Use, client: Client) -> bool:
    done = relay(**given(use), client=client)
    use.commit()
    return done.published == 1


def test_a_delay_that_is_no_time_or_outlasts_the_message_is_refused(request: pytest.FixtureRequest) -> None:
    way = emptied(make_way(request, "sqlite3"))
    with way.use() as use:
        for delay_s in (-1, float("nan"), float("inf"), 1e10):
            with pytest.raises(InvalidMessage, match=r"outbox: delay_s = .* from 0 to a hundred years"):
                put(use.db, "orders", b"", delay_s=delay_s)
        with pytest.raises(InvalidMessage, match="expires before its delay of 3600 s"):
            put(use.db, "orders", b"", delay_s=3600, expires_s=60)


def test_a_row_that_cannot_be_published_stays_and_holds_up_no_later_one(
    dialect_way: Way, client: Client, broker: EmbeddedAdmin
) -> None:
    emptied(dialect_way)
    with dialect_way.use() as use:
        put(use.db, "no-such-queue", b"", message_id="lost")
        put(use.db, "orders", b"", message_id="good")
        use.commit()
        first = relay(use.db, client, limit=1)
        second = relay(use.db, client, limit=1, after=first.last)
        use.commit()
    (failed,) = first.failed
    assert failed.message_id == "lost"
    assert isinstance(failed.error, Unroutable)
    assert second.published == 1
    assert arrived(broker) == ["good"]
    assert in_outbox(dialect_way) == 1


def test_while_the_broker_is_away_all_rows_stay(driver_way: Way) -> None:
    emptied(driver_way)
    with driver_way.use() as use, Client(f"amqp://127.0.0.1:{free_port()}/") as away:
        for number in range(3):
            put(use.db, "orders", b"", message_id=f"m{number}")
        use.commit()
        relayed = relay(use.db, away, timeout_s=0.3)
        use.commit()
    assert [type(failed.error) for failed in relayed.failed] == [TimedOut] * 3
    assert in_outbox(driver_way) == 3


@pytest.mark.parametrize("name", ["psycopg", "pymysql"])
def test_two_relays_share_the_rows_and_writers_go_on_meanwhile(
    name: str, request: pytest.FixtureRequest, client: Client, broker: EmbeddedAdmin
) -> None:
    way = emptied(make_way(request, name))
    with way.use() as one, way.use() as two, way.use() as writer:
        for number in range(4):
            put(writer.db, "orders", b"", message_id=f"m{number}")
        writer.commit()
        assert relay(one.db, client, limit=2).published == 2
        assert relay(two.db, client).published == 2, "those of the other one's transaction are left out"
        put(writer.db, "orders", b"", message_id="later")  # no lock of the relays holds it up
        writer.commit()
        one.commit()
        two.commit()
        assert relay(one.db, client).published == 1
        one.commit()
    assert arrived(broker) == ["m0", "m1", "m2", "m3", "later"]


def test_a_wrong_use_is_told_with_what_to_do(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    way = emptied(make_way(request, "sqlite3"))
    assert way.autocommit is not None
    autocommit = way.autocommit()
    with pytest.raises(OutboxError, match=r"outbox: the connection is in autocommit.*BEGIN IMMEDIATE"):
        put(autocommit.db, "orders", b"")
    autocommit.close()
    with pytest.raises(OutboxError, match="outbox: this is no connection that it can use"):
        put(object(), "orders", b"")
    with way.use() as use:
        with pytest.raises(InvalidMessage):
            put(use.db, "orders", b"", headers={"x": float("nan")})
        way.place.ask("DROP TABLE preforkd_outbox")
        with pytest.raises(OutboxError, match=r"no table preforkd_outbox: `preforkd inbox sql --outbox"):
            put(use.db, "orders", b"")
        use.rollback()
    command = [sys.executable, "-m", "supervisor", "inbox", "sql", "--outbox", "--dialect", "sqlite"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "CREATE TABLE IF NOT EXISTS preforkd_outbox" in told.stdout


def test_django_makes_the_table_and_relays_by_a_command(
    request: pytest.FixtureRequest, tmp_path: Path, broker: EmbeddedAdmin
) -> None:
    from django.core.management import CommandError, call_command
    from django.db import connections

    way = make_way(request, "django sqlite")
    way.place.ask("DROP TABLE IF EXISTS preforkd_outbox")
    call_command("migrate", "preforkd_outbox", database="sqlite", verbosity=0)
    try:
        with way.use() as use:
            put(None, "orders", b"", message_id="m1", using="sqlite")
            put(None, "no-such-queue", b"", message_id="m2", using="sqlite")
            use.commit()
        said, complained = io.StringIO(), io.StringIO()
        url = f"embedded:{tmp_path / 'state'}"
        with pytest.raises(CommandError, match="1 message"):
            call_command("preforkd_relay_outbox", url=[url], database="sqlite", stdout=said, stderr=complained)
        assert said.getvalue() == "1 message(s) published\n"
        assert "message 'm2' for queue 'no-such-queue'" in complained.getvalue()
        assert arrived(broker) == ["m1"]
        assert in_outbox(way) == 1
        call_command("migrate", "preforkd_outbox", "zero", database="sqlite", verbosity=0)
        call_command("migrate", "preforkd_outbox", database="sqlite", verbosity=0)
    finally:
        connections["sqlite"].close()


def test_djangos_relay_on_sqlite_goes_on_where_a_worker_writes_before_the_row_is_deleted(
    request: pytest.FixtureRequest, tmp_path: Path, broker: EmbeddedAdmin
) -> None:
    from django.db import connections

    from supervisor.outbox.django.management.commands.preforkd_relay_outbox import Command

    way = emptied(make_way(request, "django sqlite"))
    way.place.ask("CREATE TABLE IF NOT EXISTS worked (number INTEGER)")

    class Overtaken(Client):
        """A worker has the message, and has committed its effect into the same file, before the relay goes on."""

        def submit(self, *words: Any, **fields: Any) -> Future[str]:
            future = super().submit(*words, **fields)
            future.result(20)
            way.place.ask("INSERT INTO worked VALUES (1)")
            return future

    try:
        with way.use() as use:
            put(None, "orders", b"", message_id="m1", using="sqlite")
            put(None, "orders", b"", message_id="m2", using="sqlite")
            use.commit()
        with Overtaken(f"embedded:{tmp_path / 'state'}") as client:
            assert Command()._all(client, "sqlite", 1) == (2, [])
        assert (arrived(broker), in_outbox(way)) == (["m1", "m2"], 0)
    finally:
        connections["sqlite"].close()
