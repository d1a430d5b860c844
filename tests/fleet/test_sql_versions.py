"""A later version of the schema, on a store that is in use; and an earlier preforkd on it."""

from __future__ import annotations

import pytest

from supervisor.fleet import schema
from tests.support.fleet_store import DAEMON, FleetStore, Row, StoreError

FIRST = schema.VERSION
_TABLES = "ALTER TABLE preforkd.holder ADD COLUMN zone text; CREATE TABLE preforkd.zone (name text);"
_FUNCTION = "CREATE OR REPLACE FUNCTION preforkd.turn_2() RETURNS integer LANGUAGE sql AS 'SELECT 2';"


def become_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version: a column, a table and a function more."""
    now = schema.text

    def text(name: str) -> str:
        if name == f"{FIRST + 1:03}":
            return _TABLES
        return now(name) + (_FUNCTION if name == schema.FUNCTIONS[-1] else "")

    monkeypatch.setattr(schema, "text", text)
    monkeypatch.setattr(schema, "VERSION", FIRST + 1)
    monkeypatch.setattr(schema, "FOR_DAEMONS", (*schema.FOR_DAEMONS, "turn_2"))


def test_an_upgrade_keeps_all_rows_and_a_daemon_of_the_former_version_goes_on(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = store.holder("a")
    a.claim(1)
    become_later(monkeypatch)
    assert schema.install(store.owner.ask, "test", DAEMON) == (FIRST, FIRST + 1)
    assert schema.install(store.owner.ask, "test", DAEMON) == (FIRST + 1, FIRST + 1)
    assert a.settle("o", 1) == {}
    assert store.settled_rows() == [Row(1, (1, 1), "o", a.epoch)]
    assert a.caller.ask("SELECT preforkd.turn_2()") == [(2,)]
    assert a.caller.ask("SELECT schema FROM preforkd.about_1()") == [(FIRST + 1,)]
    assert store.holder("b").claim(1) != {}
    with pytest.raises(StoreError, match="42501"):
        a.caller.ask("SELECT * FROM preforkd.zone")
    monkeypatch.undo()
    assert schema.install(store.owner.ask, "test", DAEMON) == (FIRST + 1, FIRST + 1), "it is left alone"
    store.make()


def test_a_new_store_has_all_versions_at_once(store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    become_later(monkeypatch)
    store.make()
    assert store.holder("a").claim(1) == {}
    assert store.owner.ask("SELECT count(*) FROM preforkd.zone") == [(0,)]
    monkeypatch.undo()
    store.make()


def test_an_installation_that_fails_leaves_nothing(store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    become_later(monkeypatch)
    store.owner.ask("BEGIN")
    with pytest.raises(StoreError, match="42704"):
        schema.install(store.owner.ask, "test", "no such role")
    store.owner.ask("ROLLBACK")
    assert schema.found_version(store.owner.ask) == FIRST
    assert schema.install(store.owner.ask, "test", DAEMON) == (FIRST, FIRST + 1)
    monkeypatch.undo()
    store.make()


def test_a_database_without_a_schema_has_version_0(store: FleetStore) -> None:
    store.owner.ask("DROP SCHEMA preforkd CASCADE")
    assert schema.found_version(store.owner.ask) == 0
    assert schema.install(store.owner.ask, "prod", DAEMON) == (0, FIRST)
    assert store.caller(DAEMON).ask("SELECT schema, fleet FROM preforkd.about_1()") == [(FIRST, "prod")]
    store.make()
