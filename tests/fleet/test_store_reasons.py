"""What a user reads when the store cannot be used: each fault made with a real server, and no password in any text."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import psycopg
import pytest

from supervisor.config.schema import FleetConfig
from supervisor.fleet.admin import Store, StoreError, opened
from supervisor.fleet.schema import VERSION
from supervisor.ledger.base import GRANTED, Result, RowState
from tests.support.fleet import Host, made_store, store_url
from tests.support.guarded_postgresql import Bouncer, GuardedPostgreSQL, Standby, guarded, running
from tests.support.ledgers import row_of
from tests.support.nobody import a_public_folder
from tests.support.postgresql import PostgreSQL, programs
from tests.support.rabbitmq import free_port

__all__ = ["guarded"]


def refused(url: str) -> str:
    """Why the store cannot be opened."""
    with pytest.raises(StoreError) as caught, opened(url):
        pass
    assert "wrong-password" not in str(caught.value)
    return str(caught.value)


def url(server: PostgreSQL, user: str = "postgres", rest: str = "", host: str = "127.0.0.1") -> str:
    """The URL of the database `postgres` there."""
    return f"postgresql://{user}@{host}:{server.port}/postgres{rest}"


# ---- the way there --------------------------------------------------------------------------------------------------


def test_a_port_without_a_server() -> None:
    port = free_port()
    said = refused(f"postgresql://u:wrong-password@127.0.0.1:{port}/d")
    assert said.startswith(f"postgresql://u@127.0.0.1:{port}/d: no server listens there")
    assert said.endswith(": start PostgreSQL, or correct host and port in the URL")


def test_a_name_that_is_none() -> None:
    said = refused("postgresql://u@no-such-host.invalid/d")
    assert "there is no host" in said
    assert "no-such-host.invalid" in said
    assert said.endswith(": correct the host in the URL, or the name server")


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no socket of a server" in refused(f"postgresql:///d?host={tmp_path}")


def test_a_server_that_is_no_postgresql() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(30)

        def answer() -> None:
            with suppress(OSError):  # closed by then: how often libpq tries is its own choice
                while True:
                    connection, _address = listener.accept()
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.recv(1000)
                    connection.close()

        server = threading.Thread(target=answer, daemon=True)
        server.start()
        said = refused(f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable")
    assert "what listens there is no PostgreSQL" in said


def test_the_second_host_is_taken_when_the_first_is_away(guarded: GuardedPostgreSQL) -> None:
    with opened(f"postgresql://postgres@127.0.0.1:{free_port()},127.0.0.1:{guarded.port}/postgres") as store:
        assert store.facts().user == "postgres"


# ---- who may come in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "rest", "said"),
    [
        ("ann:wrong-password", "", "the user ann or its password is wrong"),
        ("ann", "", "the server asks for a password, and the URL has none"),
        ("bob", "?sslmode=disable", "the server does not let bob from 127.0.0.1 into database postgres without TLS"),
        ("bob", "?sslmode=require", "the server does not let bob from 127.0.0.1 into database postgres"),
        ("carol", "?sslmode=disable", "into database postgres without TLS"),
        ("dora", "?sslmode=require", "the server does not let dora from 127.0.0.1 into database postgres"),
        ("erin", "", 'the role erin may not log in (127.0.0.1:PORT): ALTER ROLE "erin" LOGIN'),
        ("few", "", "the server takes no more connections"),
    ],
)
def test_who_may_not_come_in(guarded: GuardedPostgreSQL, user: str, rest: str, said: str) -> None:
    assert said.replace("PORT", str(guarded.port)) in refused(url(guarded, user, rest))


def test_a_password_that_is_right(guarded: GuardedPostgreSQL) -> None:
    with opened(url(guarded, "ann:right", "?sslmode=require")) as store:
        assert store.facts().user == "ann"


def test_a_role_that_is_not_there(postgresql: PostgreSQL) -> None:
    assert "there is no user nowhere" in refused(url(postgresql, "nowhere"))


def test_a_database_that_is_not_there(postgresql: PostgreSQL) -> None:
    said = refused(f"postgresql://postgres@127.0.0.1:{postgresql.port}/missing")
    assert "there is no database missing" in said
    assert "make it (CREATE DATABASE), or correct it in the URL" in said


def test_a_database_that_the_user_may_not_enter(guarded: GuardedPostgreSQL) -> None:
    name = guarded.new_database()
    guarded.ask("", f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    said = refused(f"postgresql://ann:right@127.0.0.1:{guarded.port}/{name}")
    assert f"the user may not enter database {name}" in said
    assert f"GRANT CONNECT ON DATABASE {name} to it" in said


# ---- TLS ------------------------------------------------------------------------------------------------------------


def test_verify_full_with_the_servers_own_authority(guarded: GuardedPostgreSQL) -> None:
    with opened(url(guarded, "carol", f"?sslmode=verify-full&sslrootcert={guarded.ca}", "localhost")) as store:
        assert store.facts().user == "carol"


def test_a_certificate_for_another_name(guarded: GuardedPostgreSQL) -> None:
    said = refused(url(guarded, "carol", f"?sslmode=verify-full&sslrootcert={guarded.ca}"))
    assert "the server's certificate is for localhost, the URL names 127.0.0.1" in said


def test_a_certificate_of_another_authority(guarded: GuardedPostgreSQL, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text((guarded.folder / "cert.pem").read_text())
    said = refused(url(guarded, "carol", f"?sslmode=verify-full&sslrootcert={other}", "localhost"))
    assert "the server's certificate is not signed by a known authority" in said


def test_an_authority_that_is_not_there(guarded: GuardedPostgreSQL, tmp_path: Path) -> None:
    said = refused(url(guarded, "carol", f"?sslmode=verify-full&sslrootcert={tmp_path}/none.pem", "localhost"))
    assert f"the authorities in {tmp_path}/none.pem cannot be read" in said


def test_a_server_without_tls(postgresql: PostgreSQL) -> None:
    assert "the server has no TLS, and the URL asks for it" in refused(url(postgresql, rest="?sslmode=require"))


# ---- the state of the server ----------------------------------------------------------------------------------------


def test_a_standby_is_refused_and_the_primary_behind_it_is_found(guarded: GuardedPostgreSQL) -> None:
    with a_public_folder(in_memory=True) as folder:
        standby = Standby(folder, programs(), guarded)
        with running(standby):
            said = refused(url(standby))
            assert "the server is a standby, or read-only" in said
            assert "name the primary in the URL, or all hosts of the cluster (@one,two/)" in said
            both = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{guarded.port}/postgres"
            with opened(both) as store:
                assert store.facts().settings["transaction_read_only"] == "off"


def test_a_database_that_is_read_only(postgresql: PostgreSQL) -> None:
    name = postgresql.new_database()
    postgresql.ask("", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    said = refused(f"postgresql://postgres@127.0.0.1:{postgresql.port}/{name}")
    assert "the server is a standby, or read-only" in said


def test_a_server_that_takes_no_more_connections(guarded: GuardedPostgreSQL) -> None:
    held = []
    try:
        while len(held) < 200:
            held.append(psycopg.connect(guarded.dsn("postgres")))
    except psycopg.OperationalError:
        said = refused(url(guarded))
    finally:
        for connection in held:
            connection.close()
    assert "the server takes no more connections" in said
    assert "each pool of each host needs one" in said


# ---- poolers --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["session", "transaction", "statement"])
def bouncer(request: pytest.FixtureRequest, postgresql: PostgreSQL) -> Iterator[tuple[str, Bouncer]]:
    with a_public_folder(in_memory=True) as folder:
        server = Bouncer(folder, postgresql, request.param)
        with running(server):
            yield request.param, server


def test_what_works_through_pgbouncer(bouncer: tuple[str, Bouncer], postgresql: PostgreSQL) -> None:
    mode, server = bouncer
    database = postgresql.new_database()
    through = f"postgresql://postgres@127.0.0.1:{server.port}/{database}"
    direct = f"postgresql://postgres@127.0.0.1:{postgresql.port}/{database}"

    if mode == "statement":
        with (
            opened(through) as store,
            pytest.raises(StoreError, match="the pooler is in statement mode: set pool_mode"),
        ):
            store.install("tests")
        with opened(direct) as store:
            store.install("tests")
    else:
        with opened(through) as store:
            assert store.install("tests")[:2] == (0, VERSION)

    for _connection in range(2):  # the second one gets what the first has left in the server's connection
        with opened(through) as store:
            looked_at(store)


def test_a_daemons_ledger_works_through_pgbouncer(
    bouncer: tuple[str, Bouncer], postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mode, server = bouncer
    fleet = FleetConfig(store_url(server.port, made_store(postgresql)), "tests")
    here, there = (Host(name, tmp_path / name, fleet, monkeypatch) for name in ("here", "there"))
    try:
        assert claimed(here, "a") == GRANTED
        (rival,) = claimed(there, "a").refused.values()
        assert rival.host == "here"
        assert claimed(there, "b") == GRANTED
        here.open()  # another connection, perhaps with what the former one has left
        assert claimed(here, "c") == GRANTED
    finally:
        here.close()
        there.close()


def claimed(host: Host, id: str) -> Result:
    """What comes of a claim."""
    row = msgspec.structs.replace(row_of(id, RowState.DISPATCHED), epoch=host.ledger.epoch)
    return host.ledger.commit([row], {})


def looked_at(store: Store) -> None:
    """What check, status and forget ask."""
    facts = store.facts()
    assert (facts.schema, facts.fleet, facts.denied) == (VERSION, "tests", ())
    assert store.holders() == []
    assert store.forget("host") == []


def test_a_parameter_that_pgbouncer_does_not_know(bouncer: tuple[str, Bouncer]) -> None:
    _mode, server = bouncer
    said = refused(f"postgresql://postgres@127.0.0.1:{server.port}/postgres?options=-c%20work_mem%3D1MB")
    assert "the pooler does not take the parameter" in said
    assert "ignore_startup_parameters" in said


def test_pgbouncer_without_a_server(bouncer: tuple[str, Bouncer], postgresql: PostgreSQL) -> None:
    _mode, server = bouncer
    said = refused(f"postgresql://postgres@127.0.0.1:{server.port}/missing")
    assert "there is no database missing" in said or "the pooler has no connection to PostgreSQL" in said
