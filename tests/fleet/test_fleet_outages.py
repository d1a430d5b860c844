"""The ledger of a fleet while its store is away, slow, or loses the connection at any stage of a call."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from supervisor.config.schema import FleetConfig
from supervisor.fleet import connection as connections
from supervisor.ledger import fleet_store
from supervisor.ledger.base import GRANTED, Ledger, Result, RowState
from supervisor.logs.events import Event
from supervisor.system.clock import boottime_s
from supervisor.system.posix import readable
from tests.support.descriptors import descriptors
from tests.support.fleet import Host, emptied_store, made_store, store_url
from tests.support.ledgers import found, key_of, row_of
from tests.support.postgresql import PostgreSQL, running_postgresql
from tests.support.proxy import Proxy, running_proxy
from tests.support.waiting import eventually

CLAIMED, PENDING, DONE, RETURNED = RowState.DISPATCHED, RowState.RETRY_PENDING, RowState.DONE, RowState.RETURNED

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One that may be killed and stopped, but runs at the end of each test."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def database(server: PostgreSQL) -> str:
    return made_store(server)


@pytest.fixture
def ask(server: PostgreSQL, database: str) -> Ask:
    emptied_store(server, database)
    return lambda sql: server.ask(database, sql)


@pytest.fixture
def proxy(server: PostgreSQL) -> Iterator[Proxy]:
    with running_proxy(server.port, amqp=False) as proxy:
        yield proxy


@pytest.fixture
def here(ask: Ask, proxy: Proxy, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host whose way to the store is the proxy's."""
    host = Host("here", tmp_path / "here", FleetConfig(store_url(proxy.port, database), "tests"), monkeypatch)
    host.open()
    yield host
    host.close()


@pytest.fixture
def there(
    ask: Ask, server: PostgreSQL, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """A host with a way of its own."""
    host = Host("there", tmp_path / "there", FleetConfig(store_url(server.port, database), "tests"), monkeypatch)
    yield host
    host.close()


def submit(ledger: Ledger, *rows: tuple[str, RowState]) -> None:
    made = [msgspec.structs.replace(row_of(id, state), epoch=ledger.epoch) for id, state in rows]
    ledger.submit({row.key: row for row in made}, {"rows": len(made)})


def awaited(ledger: Ledger) -> Result:
    """The results, waited for as the consumer does: by its descriptor, with `attend` in each turn."""
    deadline_s = boottime_s() + 60
    while (result := ledger.results()) is None:
        assert boottime_s() < deadline_s, "no results"
        readable(ledger.fileno() or -1, 2.0)
        ledger.attend()
    return result


def commit(ledger: Ledger, *rows: tuple[str, RowState]) -> Result:
    submit(ledger, *rows)
    return awaited(ledger)


def turn_until(ledger: Ledger, holds: Callable[[], object], what: str) -> None:
    def turned() -> object:
        ledger.attend()
        return holds()

    eventually(turned, what)


def events(caplog: pytest.LogCaptureFixture) -> list[Event]:
    return [record.__dict__["preforkd_line"][0] for record in caplog.records if "preforkd_line" in record.__dict__]


def effects(ask: Ask) -> tuple[list[Any], list[Any]]:
    """What is open, and what is settled."""
    return (
        ask("SELECT name, state::text FROM preforkd.open ORDER BY name"),
        ask("SELECT name, state::text FROM preforkd.settled ORDER BY name"),
    )


# ---- the server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "fast shutdown"])
def test_i1_a_server_that_is_ended_in_mid_call_and_comes_back_answers_that_call(
    here: Host, server: PostgreSQL, ask: Ask, number: signal.Signals
) -> None:
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED))
    server.stop_signal()
    submit(ledger, ("a", DONE), ("b", CLAIMED))
    server.cont() if number is signal.SIGINT else None
    server.end(number)
    try:
        for _ in range(50):
            ledger.attend()
            assert ledger.results() is None or number is signal.SIGINT
        assert [row.state for row in found(ledger, "a")] == [DONE], "on this host at once"
    finally:
        server.start()
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("b", "c")], [("a", "o")])
    assert ledger.counters() == {"rows": 3}


def test_a_server_that_is_away_when_a_turn_begins_keeps_that_turn_waiting_and_raises_nothing(
    here: Host, server: PostgreSQL, ask: Ask
) -> None:
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED))
    server.end(signal.SIGKILL)
    try:
        turn_until(ledger, lambda: not ledger._store._connection.up, "the loss is noticed")  # type: ignore[attr-defined]
        submit(ledger, ("a", DONE), ("b", CLAIMED))
        assert ledger.results() is None
        assert [row.state for row in found(ledger, "a")] == [DONE]
        assert found(ledger, "b") == []
    finally:
        server.start()
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("b", "c")], [("a", "o")])


def test_a_server_that_stands_still_blocks_no_call_of_the_ledger(here: Host, server: PostgreSQL, ask: Ask) -> None:
    """Were one of these calls to wait for the server, the test would never reach `cont`."""
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED))
    server.stop_signal()
    try:
        submit(ledger, ("a", PENDING), ("b", CLAIMED))
        for _ in range(500):
            assert ledger.results() is None
            ledger.attend()
        ledger.evict(0.0, 1000)
        assert [row.state for row in ledger.open_rows()] == [PENDING]
        assert not readable(ledger.fileno() or -1, 0), "the loop would turn for nothing"
    finally:
        server.cont()
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("a", "R"), ("b", "c")], [])


def test_i3_the_lease_counts_from_the_sending_of_a_call_and_its_second_half_is_for_what_runs(
    here: Host, server: PostgreSQL
) -> None:
    """Others may have seen the call right after it was sent, and count from then."""
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED))
    before_s = ledger.holds_until_s
    server.stop_signal()
    submit(ledger, ("b", CLAIMED))
    sent_s = boottime_s()
    while boottime_s() < sent_s + 1.0:
        readable(ledger.fileno() or -1, 0.1)
        ledger.attend()
    assert ledger.holds_until_s == before_s, "a call without an answer renews nothing"
    server.cont()
    awaited(ledger)
    assert before_s < ledger.holds_until_s <= sent_s + FleetConfig("", "").lease_s
    assert ledger.begins_until_s == ledger.holds_until_s - FleetConfig("", "").lease_s / 2


def test_a_server_that_stands_still_for_too_long_is_left_and_has_one_effect(
    here: Host, server: PostgreSQL, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED))
    server.stop_signal()
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    try:
        submit(ledger, ("a", DONE), ("b", CLAIMED))
        turn_until(ledger, lambda: not ledger._store._connection.up, "it is given up")  # type: ignore[attr-defined]
    finally:
        monkeypatch.undo()
        server.cont()
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("b", "c")], [("a", "o")])


def test_a_terminated_backend_is_replaced_between_calls_and_in_a_call_that_waits(
    here: Host, server: PostgreSQL, database: str, ask: Ask
) -> None:
    """Another session holds the place of b, undecided; the claim waits for it, and loses its backend meanwhile."""
    ledger = here.ledger
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'preforkd%'"
    ask(end)
    assert commit(ledger, ("a", CLAIMED)) == GRANTED
    with psycopg.connect(server.dsn(database)) as other:
        other.execute(
            "INSERT INTO preforkd.open VALUES (%s, %s, 0, now(), 1, 1, 'c')",
            (key_of("b")[:16].hex(), int.from_bytes(key_of("b")[16:], "big", signed=True)),
        )
        submit(ledger, ("b", CLAIMED), ("a", DONE))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'preforkd%'"
        turn_until(ledger, lambda: ask(waits), "the claim waits")
        ask(end)
        turn_until(ledger, lambda: ledger._store._connection.opened == 3, "a new connection")  # type: ignore[attr-defined]
        assert ledger.results() is None
        other.rollback()
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("b", "c")], [("a", "o")])


def test_a_lock_that_is_held_for_long_delays_a_claim_and_no_more(
    here: Host, server: PostgreSQL, database: str, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = here.ledger
    with psycopg.connect(server.dsn(database)) as other:
        other.execute("LOCK TABLE preforkd.open IN ACCESS EXCLUSIVE MODE")
        submit(ledger, ("a", CLAIMED))
        turn_until(ledger, lambda: ledger._store._repeats == 2, "refused by its time limit, twice")  # type: ignore[attr-defined]
        assert ledger.results() is None
        other.rollback()
    assert awaited(ledger) == GRANTED
    assert here.ledger._store._connection.opened == 1  # type: ignore[attr-defined]
    assert events(caplog) == [Event.FLEET_UNREACHABLE]


def test_a_server_that_has_become_read_only_is_left_for_another_connection(here: Host, ask: Ask) -> None:
    """As after a failover: the connection stays, and each call is refused."""
    ledger = here.ledger
    name = "preforkd.begin_turn(me bigint, turn bigint)"
    ((was,),) = ask("SELECT pg_get_functiondef('preforkd.begin_turn'::regproc)")
    body = "BEGIN RAISE EXCEPTION USING ERRCODE = '25006'; END"
    ask(f"CREATE OR REPLACE FUNCTION {name} RETURNS void LANGUAGE plpgsql AS $$ {body} $$")
    try:
        submit(ledger, ("a", CLAIMED))
        turn_until(ledger, lambda: ledger._store._connection.opened >= 2, "another connection")  # type: ignore[attr-defined]
        assert ledger.results() is None
    finally:
        ask(was)
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("a", "c")], [])


# ---- the way there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["answer lost", "call lost", "reset"])
def test_i2_a_call_whose_connection_breaks_has_one_effect(here: Host, proxy: Proxy, ask: Ask, fault: str) -> None:
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED), ("b", CLAIMED), ("r", CLAIMED))
    {"answer lost": proxy.lose_answers, "call lost": proxy.silence, "reset": lambda: None}[fault]()
    submit(ledger, ("a", DONE), ("b", PENDING), ("r", RETURNED), ("c", CLAIMED))
    if fault == "answer lost":
        turn_until(ledger, lambda: ask("SELECT 1 FROM preforkd.open WHERE name = 'c'"), "the store has decided")
    if fault != "reset":
        assert ledger.results() is None
    proxy.reset()
    assert awaited(ledger) == GRANTED
    assert effects(ask) == ([("b", "R"), ("c", "c")], [("a", "o")])
    assert commit(ledger, ("b", RowState.RETRY), ("c", DONE)) == GRANTED
    assert effects(ask) == ([], [("a", "o"), ("b", "r"), ("c", "o")])


def test_i3_a_call_that_arrives_after_its_connection_was_given_up_is_void(
    here: Host, there: Host, server: PostgreSQL, proxy: Proxy, ask: Ask
) -> None:
    """The call stands still in the server while its host goes on over another connection and gives the message back."""
    ledger = here.ledger
    commit(ledger, ("x", CLAIMED))
    (epoch, turn) = ask("SELECT epoch, turn FROM preforkd.holder")[0]
    proxy.silence()
    submit(ledger, ("a", CLAIMED))
    proxy.reset()
    assert awaited(ledger) == GRANTED
    assert commit(ledger, ("a", RETURNED)) == GRANTED
    with pytest.raises(psycopg.Error) as late:
        ask(f"SELECT * FROM preforkd.turn_1({epoch}, {turn})")
    assert late.value.sqlstate == "PF002"
    assert commit(there.ledger, ("a", CLAIMED)) == GRANTED


@pytest.mark.parametrize("seed", range(3))
def test_i2_resets_at_any_moment_have_one_effect_each(here: Host, proxy: Proxy, ask: Ask, seed: int) -> None:
    ledger = here.ledger
    for number in range(10):
        id = f"m{number}"
        for step, rows in enumerate([[(id, CLAIMED)], [(id, PENDING)], [(id, RowState.RETRY)]]):
            submit(ledger, *rows)
            for _ in range((number + step + seed) % 5):
                ledger.attend()
            proxy.reset()
            assert awaited(ledger) == GRANTED
    assert effects(ask) == ([], [(f"m{number}", "r") for number in range(10)])


def test_a_claim_that_was_answered_to_nowhere_stays_refused_to_others(
    here: Host, there: Host, proxy: Proxy, ask: Ask
) -> None:
    ledger = here.ledger
    proxy.lose_answers()
    submit(ledger, ("a", CLAIMED))
    turn_until(ledger, lambda: ask("SELECT 1 FROM preforkd.open"), "the store has decided")
    assert list(commit(there.ledger, ("a", CLAIMED)).refused) == [key_of("a")]
    proxy.reset()
    assert awaited(ledger) == GRANTED


def test_an_outage_is_told_once_with_what_it_means_and_its_end_with_its_length(
    here: Host, proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(fleet_store, "TELL_S", 0.05)
    ledger = here.ledger
    proxy.refuse()
    turn_until(ledger, lambda: events(caplog), "it is told")
    for _ in range(100):
        ledger.attend()
    proxy.admit()
    assert commit(ledger, ("a", CLAIMED)) == GRANTED
    assert events(caplog) == [Event.FLEET_UNREACHABLE, Event.FLEET_RESTORED]
    assert "nothing new is started, running messages finish" in caplog.text
    assert "postgres@127.0.0.1" in caplog.text and "answers again after" in caplog.text


def test_a_connection_that_is_replaced_at_once_is_no_outage(
    here: Host, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for id in "abc":
        proxy.reset()
        assert commit(here.ledger, (id, CLAIMED)) == GRANTED
    assert events(caplog) == []


def test_no_descriptor_is_left_of_an_outage(here: Host, proxy: Proxy) -> None:
    ledger = here.ledger
    commit(ledger, ("a", CLAIMED))
    before = descriptors()
    for id in "bcd":
        proxy.refuse()
        submit(ledger, (id, CLAIMED))
        turn_until(ledger, lambda: ledger._store._connection.rounds, "a refused attempt")  # type: ignore[attr-defined]
        proxy.admit()
        assert awaited(ledger) == GRANTED
    eventually(lambda: descriptors() == before, "the proxy has closed its own")


def test_closing_while_the_store_is_away_does_not_wait_for_it(here: Host, server: PostgreSQL) -> None:
    commit(here.ledger, ("a", CLAIMED))
    server.end(signal.SIGKILL)
    try:
        submit(here.ledger, ("a", DONE))
        here.close()
    finally:
        server.start()
    assert [row.state for row in found(here.open(), "a")] == [DONE]
