"""Facts about `once` below SQLAlchemy and Django, in savepoints, and about cleaning and making the table."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Any

import pytest

from supervisor import Message
from supervisor.inbox import InboxError, clean, once
from supervisor.inbox.dialects import MYSQL, POSTGRESQL
from tests.support.inbox_ways import Alchemy, FilePlace, Place, ServerPlace, Way, make_way
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL

Attempt = Callable[..., Message]


@pytest.fixture
def session(sqlite_place: Place) -> Iterator[Any]:
    assert isinstance(sqlite_place, FilePlace)
    use = Alchemy(f"sqlite:///{sqlite_place.path}", with_session=True)
    with closing(use):
        yield use.db


# ---- savepoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["psycopg", "psycopg2", "alchemy psycopg", "session pysqlite", "alchemy pymysql"])
def test_a_block_within_a_savepoint_is_refused_and_one_around_it_is_not(
    name: str, request: pytest.FixtureRequest, attempt: Attempt
) -> None:
    way = make_way(request, name)
    plain = name.startswith("psycopg")
    with way.use() as use:
        with ExitStack() as stack:
            if plain:
                use.run("SAVEPOINT mine")
            else:
                use.run("SELECT 1")
                stack.enter_context(pytest.raises(InboxError, match="savepoint"))
                stack.enter_context(use.db.begin_nested())
            with pytest.raises(InboxError, match="its rollback would take the row back"), use.once(attempt()):
                pass
            if not plain:
                raise InboxError("the savepoint is rolled back")
        use.rollback()
        with use.once(message := attempt()) as first:
            use.run("SAVEPOINT mine")
            use.run(f"INSERT INTO effects VALUES ('{message.id}')")
            use.run("RELEASE SAVEPOINT mine")
        use.commit()
    assert first and way.place.effects(message.id) == 1


def test_a_test_of_a_handler_may_run_in_a_savepoint(postgresql_place: Any, attempt: Attempt) -> None:
    import psycopg

    with psycopg.connect(postgresql_place.server.dsn(postgresql_place.name)) as db:
        db.execute("SELECT 1")
        with db.transaction(force_rollback=True), once(attempt(key=b""), db) as first:
            assert first


# ---- SQLAlchemy -----------------------------------------------------------------------------------------------------


def test_sessions_of_an_application_are_accepted(session: Any, attempt: Attempt) -> None:
    from sqlalchemy.orm import Session, scoped_session, sessionmaker

    class Own(Session):
        """As Flask-SQLAlchemy has one."""

    own, scoped = Own(session.bind), scoped_session(sessionmaker(session.bind))
    with closing(own):
        with once(attempt(), own) as first:
            pass
        own.commit()
    with once(attempt(), scoped) as again:
        pass
    scoped.remove()
    assert (first, again) == (True, False)


def test_sqlalchemys_autocommit_is_refused(postgresql_place: Any, attempt: Attempt) -> None:
    with closing(Alchemy(postgresql_place.server.url(postgresql_place.name, "psycopg"), False)) as use:
        use.db.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(InboxError, match="in autocommit"), once(attempt(), use.db):
            pass


def test_what_is_no_connection_of_sqlalchemys_or_has_ended_is_refused(session: Any, attempt: Attempt) -> None:
    with pytest.raises(InboxError, match=r"sqlalchemy.engine.base.Engine"), once(attempt(), session.bind):
        pass
    connection = session.bind.connect()
    connection.close()
    with pytest.raises(InboxError, match="the connection is closed"), once(attempt(), connection):
        pass


def test_an_asynchronous_connection_is_refused(postgresql_place: Any, attempt: Attempt) -> None:
    import psycopg

    async def use() -> None:
        db = await psycopg.AsyncConnection.connect(postgresql_place.server.dsn(postgresql_place.name))
        async with db:
            with pytest.raises(InboxError, match="an asynchronous connection"), once(attempt(), db):
                pass

    asyncio.run(use())


# ---- Django ---------------------------------------------------------------------------------------------------------


def test_without_atomic_django_is_refused(django_places: None, attempt: Attempt) -> None:
    with pytest.raises(InboxError, match=r'inside of `transaction.atomic\(using="sqlite"\)`'):
        once(attempt(), using="sqlite").__enter__()


def test_a_connection_of_djangos_is_accepted(django_places: None, attempt: Attempt) -> None:
    from django.db import connection, connections, transaction

    with transaction.atomic(using="sqlite"), once(attempt(), connections["sqlite"]) as first:
        pass
    with pytest.raises(InboxError, match=r'has no table.*":memory:"|":memory:" has no table'), transaction.atomic():
        once(attempt(), connection).__enter__()
    assert first


def test_a_connection_and_an_alias_are_refused_together(django_places: None, attempt: Attempt) -> None:
    with pytest.raises(InboxError, match="not both"):
        once(attempt(), object(), using="sqlite").__enter__()


@pytest.mark.parametrize("alias", ["postgresql", "mysql", "sqlite"])
def test_an_inner_block_of_django_is_accepted_and_its_rollback_is_told(
    alias: str, request: pytest.FixtureRequest, attempt: Attempt
) -> None:
    from django.db import transaction

    way = make_way(request, f"django {alias}")
    message = attempt()

    def inner(then: type[Exception] | None) -> Message:
        taken = attempt()
        with transaction.atomic(using=alias):
            with pytest.raises(ZeroDivisionError) if then else ExitStack(), transaction.atomic(using=alias):  # type: ignore[attr-defined]
                with once(taken, using=alias) as first:
                    assert first
                if then:
                    raise then
            assert "still open" in taken.inbox_run().fault() or then
        return taken

    rolled_back = inner(ZeroDivisionError)
    with pytest.raises(InboxError, match="was rolled back, and the handler went on"):
        rolled_back.inbox_run().fault()
    assert inner(None).inbox_run().fault() == ""
    with transaction.atomic(using=alias), once(message, using=alias) as first:
        pass
    assert not first and way.place.effects(message.id) == 0


def test_djangos_migration_makes_the_table_and_may_find_it_there(
    django_places: None, postgresql_place: Any, mysql_place: Any, sqlite_place: Any
) -> None:
    from django.core.management import call_command

    for alias, place in (("postgresql", postgresql_place), ("mysql", mysql_place), ("sqlite", sqlite_place)):
        identity = place.ask("SELECT publications FROM preforkd_inbox WHERE round = 0")
        call_command("migrate", "preforkd_inbox", database=alias, verbosity=0)
        assert place.ask("SELECT publications FROM preforkd_inbox WHERE round = 0") == identity
        call_command("migrate", "preforkd_inbox", "zero", database=alias, verbosity=0)
        call_command("migrate", "preforkd_inbox", database=alias, verbosity=0)
        ((made,),) = place.ask("SELECT publications FROM preforkd_inbox WHERE round = 0")
        assert [(made,)] != identity and len(bytes(made)) == 16
        call_command("makemigrations", "preforkd_inbox", check=True, dry_run=True, verbosity=0)


def test_djangos_command_deletes_old_rows_in_parts(django_places: None, sqlite_place: Any, attempt: Attempt) -> None:
    from django.core.management import call_command

    from supervisor.inbox.django.management.commands import preforkd_clean_inbox

    way = Way("sqlite3", sqlite_place, lambda: Alchemy(f"sqlite:///{sqlite_place.path}", False))
    with way.use() as use:
        for round in (1, 2, 3):
            with use.once(attempt(round=round)):
                pass
            use.commit()
    sqlite_place.ask("UPDATE preforkd_inbox SET at = datetime('now', '-2 days')")
    parts = pytest.MonkeyPatch()
    parts.setattr(preforkd_clean_inbox, "_PART", 2)
    said = io.StringIO()
    with closing(said):
        call_command("preforkd_clean_inbox", "--days", "1", "--database", "sqlite", stdout=said)
        assert int(said.getvalue().split()[0]) >= 3
    parts.undo()
    assert sqlite_place.ask("SELECT round FROM preforkd_inbox") == [(0,)]


def test_django_is_not_loaded_for_handlers_without_it() -> None:
    code = (
        "import sys\nfrom supervisor import Message\nfrom supervisor.inbox import once\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(loaded & {'django', 'sqlalchemy', 'psycopg', 'psycopg2', 'pymysql', 'MySQLdb', 'sqlite3'})\n"
        "try: once(Message(b''), using='default').__enter__()\nexcept Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("set()\nonce: `using` is for Django, which is not loaded here")


# ---- the table ------------------------------------------------------------------------------------------------------


def test_old_rows_are_deleted_by_the_databases_clock_and_the_caller_commits(way: Way, attempt: Attempt) -> None:
    old, new = attempt(), attempt(round=2)
    with way.use() as use:
        for message in (old, new):
            with use.once(message):
                pass
        use.commit()
        literal = f"X'{old.key.hex()}'" if way.place.dialect is not POSTGRESQL else f"'\\x{old.key.hex()}'"
        key = '"key"' if way.place.dialect is not MYSQL else "`key`"
        way.place.ask(f"UPDATE preforkd_inbox SET at = '2001-01-01' WHERE {key} = {literal} AND round = 1 OR round = 0")
        assert clean(use.db, timedelta(days=365)) == 1
        use.rollback()
        assert clean(use.db, timedelta(days=365), limit=0) == 0
        assert clean(use.db, timedelta(days=365)) == 1
        use.commit()
        with use.once(old_again := attempt(attempt=1)) as first:
            assert first, "its row is gone"
        use.commit()
        assert old_again.inbox_run().fault() == ""


def test_the_script_of_the_command_runs_twice_on_each_server(postgresql: PostgreSQL, mariadb: MariaDB) -> None:
    for server, dialect in ((postgresql, POSTGRESQL), (mariadb, MYSQL)):
        place = ServerPlace(server, dialect, with_inbox=False)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "supervisor", "inbox", "sql", "--dialect", dialect.name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for _ in range(2):
            place.ask(printed)
        ((identity,),) = place.ask("SELECT publications FROM preforkd_inbox")
        assert len(identity) == 16  # type: ignore[arg-type]
