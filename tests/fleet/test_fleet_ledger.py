"""Two hosts' ledgers on one store, a real PostgreSQL: who may begin a message, what is left where, who is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.config.schema import FleetConfig
from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.ledger import fleet_opening, fleet_store
from supervisor.ledger.base import GRANTED, Result, Row, RowState
from supervisor.ledger.fleet import FleetLedger
from supervisor.logs.events import Event
from supervisor.system.clock import boottime_s
from supervisor.system.posix import readable
from tests.support.descriptors import descriptors
from tests.support.fleet import Host, emptied_store, made_store, store_url
from tests.support.ledgers import boot, found, key_of, row_of
from tests.support.postgresql import PostgreSQL

CLAIMED, PENDING, DONE, RETURNED = RowState.DISPATCHED, RowState.RETRY_PENDING, RowState.DONE, RowState.RETURNED
GIVEN = "preforkd-" + 32 * "0"

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def database(postgresql: PostgreSQL) -> str:
    return made_store(postgresql)


@pytest.fixture
def ask(postgresql: PostgreSQL, database: str) -> Ask:
    """The store's tables."""
    return lambda sql: postgresql.ask(database, sql)


@pytest.fixture
def fleet(postgresql: PostgreSQL, database: str) -> FleetConfig:
    emptied_store(postgresql, database)
    return FleetConfig(store_url(postgresql.port, database), "tests")


@pytest.fixture
def make(fleet: FleetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Host]]:
    hosts: list[Host] = []

    def make(name: str) -> Host:
        hosts.append(Host(name, tmp_path / name, fleet, monkeypatch))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def here(make: Callable[[str], Host]) -> Host:
    return make("here")


@pytest.fixture
def there(make: Callable[[str], Host]) -> Host:
    return make("there")


def run_of(id: str, state: RowState, attempt: int = 1, round: int = 1, note: bytes = b"") -> Row:
    return msgspec.structs.replace(row_of(id, state), attempt=attempt, round=round, note=note)


def commit(host: Host, *rows: Row) -> Result:
    return host.ledger.commit([msgspec.structs.replace(row, epoch=host.ledger.epoch) for row in rows], {})


def in_hand(ask: Ask) -> list[tuple[Any, ...]]:
    return ask(
        "SELECT o.name, h.host, o.round, o.attempt, o.state::text FROM preforkd.open o JOIN preforkd.holder h "
        "USING (epoch) ORDER BY o.name"
    )


def settled(ask: Ask) -> list[tuple[Any, ...]]:
    return ask("SELECT name, round, attempt, state::text FROM preforkd.settled ORDER BY seq")


def events(caplog: pytest.LogCaptureFixture) -> list[Event]:
    return [record.__dict__["preforkd_line"][0] for record in caplog.records if "preforkd_line" in record.__dict__]


# ---- who may begin ------------------------------------------------------------------------------------------------


def test_i3_a_message_that_another_host_has_in_hand_is_refused_and_leaves_nothing_here(
    here: Host, there: Host, ask: Ask
) -> None:
    assert commit(here, run_of("a", CLAIMED)) == GRANTED
    (rival,) = commit(there, run_of("a", CLAIMED), run_of("b", CLAIMED)).refused.values()
    assert (rival.host, rival.lost, rival.row.state, rival.row.id) == ("here", False, CLAIMED, "a")
    assert found(there.ledger, "a") == []
    assert [row.id for row in there.ledger.open_rows()] == ["b"]
    assert in_hand(ask) == [("a", "here", 1, 1, "c"), ("b", "there", 1, 1, "c")]


def test_a_message_that_was_given_back_is_anyones(here: Host, there: Host) -> None:
    commit(here, run_of("a", CLAIMED))
    commit(here, run_of("a", RETURNED))
    assert commit(there, run_of("a", CLAIMED)) == GRANTED
    assert list(commit(here, run_of("a", CLAIMED)).refused) == [key_of("a")]
    assert [row.state for row in found(here.ledger, "a")] == [RETURNED], "as it was before the claim"


@pytest.mark.parametrize(
    ("state", "attempt", "round", "granted"),
    [
        (DONE, 1, 1, False),
        (DONE, 2, 1, False),
        (DONE, 1, 2, True),
        (RowState.RETRY, 1, 1, False),
        (RowState.RETRY, 2, 1, True),
        (RowState.DEAD, 1, 1, False),
        (RowState.DEAD, 1, 2, True),
        (RowState.PARKED, 1, 1, False),
        (RowState.PARKED, 1, 2, True),
        (RowState.GONE, 1, 1, False),
        (RowState.GONE, 2, 1, True),
    ],
)
def test_i2_what_another_host_has_settled_is_begun_only_as_a_later_run(
    here: Host, there: Host, state: RowState, attempt: int, round: int, granted: bool
) -> None:
    commit(here, run_of("a", CLAIMED))
    commit(here, run_of("a", state, note=b"why"))
    result = commit(there, run_of("a", CLAIMED, attempt, round))
    if granted:
        assert result == GRANTED
        return
    rival = result.refused[key_of("a")]
    assert (rival.row.state, rival.row.note, rival.host, rival.row.attempt) == (state, b"why", "here", 1)
    assert abs(rival.row.at_s - there.ledger.now_s) < 60, "by this ledger's time"


@pytest.mark.parametrize("state", [PENDING, RowState.DEAD_PENDING, RowState.PARKED_PENDING])
def test_a_decision_without_its_copy_keeps_others_from_any_run(here: Host, there: Host, state: RowState) -> None:
    commit(here, run_of("a", CLAIMED))
    commit(here, run_of("a", state, note=b"why"))
    for attempt in (1, 2):
        assert commit(there, run_of("a", CLAIMED, attempt)).refused[key_of("a")].row.state is state


def test_the_next_run_settles_the_retry_before_it_on_its_own_host(here: Host, there: Host, ask: Ask) -> None:
    commit(here, run_of("a", CLAIMED))
    commit(here, run_of("a", PENDING))
    assert commit(here, run_of("a", CLAIMED, attempt=2)) == GRANTED
    assert (in_hand(ask), settled(ask)) == ([("a", "here", 1, 2, "c")], [("a", 1, 1, "r")])
    commit(here, run_of("a", RETURNED, attempt=2))
    assert list(commit(there, run_of("a", CLAIMED, attempt=1)).refused), "it was run, and its copy exists"


def test_a_message_decided_without_a_run_here_is_claimed_by_the_decision(here: Host, there: Host, ask: Ask) -> None:
    assert commit(here, run_of("a", RowState.DEAD_PENDING)) == GRANTED
    assert [row.state for row in here.ledger.open_rows()] == [RowState.DEAD_PENDING]
    assert list(commit(there, run_of("a", RowState.DEAD_PENDING)).refused) == [key_of("a")]
    assert found(there.ledger, "a") == [] and list(there.ledger.open_rows()) == []
    assert commit(here, run_of("a", RowState.DEAD)) == GRANTED
    assert (in_hand(ask), settled(ask)) == ([], [("a", 1, 1, "d")])


def test_a_run_that_goes_to_another_worker_is_no_second_claim(here: Host, ask: Ask) -> None:
    commit(here, run_of("a", CLAIMED))
    assert commit(here, msgspec.structs.replace(run_of("a", CLAIMED), slot=5)) == GRANTED
    assert ([row.slot for row in here.ledger.open_rows()], len(in_hand(ask))) == ([5], 1)


def test_messages_without_an_id_stay_on_their_host_and_their_copies_do_not(here: Host, there: Host, ask: Ask) -> None:
    for host in (here, there):
        assert commit(host, run_of(GIVEN, CLAIMED)) == GRANTED
        assert commit(host, run_of(GIVEN, PENDING)) == GRANTED
    assert in_hand(ask) == []
    assert commit(here, run_of(GIVEN, CLAIMED, attempt=2)) == GRANTED
    assert in_hand(ask) == [(GIVEN, "here", 1, 2, "c")]


def test_names_that_no_database_takes_are_stored_changed(here: Host, ask: Ask) -> None:
    for id in ("a\0b", "\U0001f600", "x" * 255):
        assert commit(here, _named(id)) == GRANTED
    assert len(in_hand(ask)) == 3


def _named(id: str) -> Row:
    return msgspec.structs.replace(run_of(id.encode().hex(), CLAIMED), id=id)


def test_hundreds_of_messages_go_in_one_call(here: Host, there: Host, ask: Ask) -> None:
    ids = [f"m{number:03}" for number in range(300)]
    commit(here, *(run_of(id, CLAIMED) for id in ids[:100]))
    result = commit(there, *(run_of(id, CLAIMED) for id in ids))
    assert set(result.refused) == {key_of(id) for id in ids[:100]}
    turns = ask("SELECT host, turn FROM preforkd.holder ORDER BY host")
    assert turns == [("here", 1), ("there", 1)]


# ---- what a lost host had -----------------------------------------------------------------------------------------


def test_a_lost_hosts_run_is_decided_by_another_and_its_own_outcome_is_overruled(
    here: Host, there: Host, ask: Ask
) -> None:
    commit(here, run_of("a", CLAIMED), run_of("b", CLAIMED))
    ask("SELECT preforkd.forget_1('here')")
    rival = commit(there, run_of("a", CLAIMED)).refused[key_of("a")]
    assert (rival.lost, rival.row.state) == (True, CLAIMED)
    assert commit(there, run_of("a", PENDING)) == GRANTED
    with pytest.raises(LedgerError, match="declared it lost"):
        commit(here, run_of("a", DONE))
    here.open()
    assert [row.id for row in here.ledger.open_rows()] == ["b"], "its worker's outcome of a is known here"
    assert in_hand(ask) == [("a", "there", 1, 1, "R"), ("b", "here", 1, 1, "c")]
    assert list(commit(here, run_of("a", DONE)).refused) == [key_of("a")]


@pytest.mark.parametrize(
    ("settle", "left"), [([], RETURNED), ([RowState.RETRY], RowState.RETRY)], ids=["in hand", "settled"]
)
def test_an_overruled_decision_leaves_nothing_open_here(
    here: Host, there: Host, ask: Ask, settle: list[RowState], left: RowState
) -> None:
    commit(here, run_of("a", CLAIMED))
    here.kill()
    ask("SELECT preforkd.forget_1('here')")
    for state in (PENDING, *settle):
        assert commit(there, run_of("a", state)) == GRANTED
    here.open()
    assert [row.state for row in here.ledger.open_rows()] == [CLAIMED], "its worker may live"
    assert list(commit(here, run_of("a", PENDING)).refused) == [key_of("a")]
    assert [row.state for row in found(here.ledger, "a")] == [left]
    assert list(here.ledger.open_rows()) == []


def test_a_run_of_another_boot_that_others_have_decided_is_not_in_doubt_here(
    here: Host, there: Host, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(here, run_of("a", CLAIMED))
    here.kill()
    ask("SELECT preforkd.forget_1('here')")
    commit(there, run_of("a", PENDING))
    boot(monkeypatch, "another boot")
    assert list(here.open().open_rows()) == []


# ---- owners -------------------------------------------------------------------------------------------------------


def test_a_holder_that_was_fenced_is_told_in_any_turn_and_registers_again(here: Host, ask: Ask) -> None:
    commit(here, run_of("a", CLAIMED))
    ask("UPDATE preforkd.holder SET state = 'f'")
    with pytest.raises(LedgerError, match="another process has registered this ledger"):
        commit(here, run_of("a", DONE))
    for attempt in (here.ledger.attend, here.ledger.results, lambda: here.ledger.submit({}, {})):
        with pytest.raises(LedgerError, match="opened again"):
            attempt()
    assert [row.state for row in found(here.open(), "a")] == [DONE]
    assert (in_hand(ask), settled(ask)) == ([], [("a", 1, 1, "o")])


def test_a_turn_that_another_process_has_taken_ends_the_holder(here: Host, ask: Ask) -> None:
    commit(here, run_of("a", CLAIMED))
    ask("UPDATE preforkd.holder SET turn = turn + 1")
    with pytest.raises(LedgerError, match="another process has registered this ledger"):
        commit(here, run_of("a", DONE))


def test_a_copied_folder_is_refused_until_the_other_place_is_silent_for_its_lease(
    here: Host, make: Callable[[str], Host], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit(here, run_of("a", CLAIMED))
    copy = make("copy")
    copy.folder.rmdir()
    shutil.copytree(here.folder, copy.folder)
    passed_s = 0.0
    monkeypatch.setattr(fleet_opening, "boottime_s", lambda: boottime_s() + passed_s)
    for after_s in (0.0, 50.0, 85.0):
        passed_s = after_s
        with pytest.raises(LedgerError, match="registered from another place, by host here"):
            copy.open()
    assert events(caplog) == [Event.FLEET_BLOCKED], "once"
    commit(here, run_of("b", CLAIMED))
    passed_s = 100.0
    with pytest.raises(LedgerError, match="waiting 1m3"):
        copy.open()
    for after_s in (150.0, 190.0):
        passed_s = after_s
        with pytest.raises(LedgerError, match="another place"):
            copy.open()
    passed_s = 200.0
    assert [row.id for row in copy.open().open_rows()] == ["a"]
    with pytest.raises(LedgerError, match="another process has registered this ledger"):
        commit(here, run_of("a", DONE))


def test_a_watch_with_a_gap_begins_again(here: Host, make: Callable[[str], Host], monkeypatch: Any) -> None:
    commit(here, run_of("a", CLAIMED))
    copy = make("copy")
    copy.folder.rmdir()
    shutil.copytree(here.folder, copy.folder)
    for passed_s in (0.0, 60.0, 160.0, 230.0):
        monkeypatch.setattr(fleet_opening, "boottime_s", lambda passed_s=passed_s: boottime_s() + passed_s)
        with pytest.raises(LedgerError, match="another place"):
            copy.open()


def test_the_same_folder_is_opened_again_at_once_after_a_kill(here: Host, ask: Ask) -> None:
    commit(here, run_of("a", CLAIMED))
    for _ in range(3):
        here.kill()
        here.open()
    assert in_hand(ask) == [("a", "here", 1, 1, "c")]
    assert ask("SELECT state::text FROM preforkd.holder ORDER BY epoch") == [("f",), ("f",), ("f",), ("l",)]


def test_a_holder_that_closes_is_gone_if_it_has_nothing_open(here: Host, there: Host, ask: Ask) -> None:
    commit(here, run_of("a", CLAIMED))
    commit(there, run_of("b", CLAIMED))
    commit(there, run_of("b", DONE))
    here.close()
    there.close()
    assert ask("SELECT host, state::text FROM preforkd.holder ORDER BY host") == [("here", "l"), ("there", "g")]


# ---- between calls ------------------------------------------------------------------------------------------------


def test_an_idle_holder_beats_when_its_descriptor_says_so(
    here: Host, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_store, "BEATS", 900)
    ledger = here.open()
    for beats in range(3):
        while ask("SELECT turn FROM preforkd.holder") == [(beats,)]:
            assert readable(ledger.fileno() or -1, 30)
            ledger.attend()
    assert commit(here, run_of("a", CLAIMED)) == GRANTED, "the numbers of calls are those of both"


def test_hosts_with_other_settings_are_told_once(
    here: Host, there: Host, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    there.open()
    ask("UPDATE preforkd.holder SET settings = settings + 1")
    with caplog.at_level("WARNING"):
        ledger = here.open()
        while Event.FLEET_MISMATCH not in events(caplog):
            ledger.attend()
            assert readable(ledger.fileno() or -1, 30)
    assert "other settings than here on there: on_crash" in caplog.text


def test_eviction_lets_the_store_do_its_upkeep_once_an_hour(here: Host, ask: Ask) -> None:
    for _ in range(3):
        here.ledger.evict(here.ledger.now_s - 5000.0, 1000)
        commit(here, run_of("a", CLAIMED))
        commit(here, run_of("a", RETURNED))
    ((kept_s,),) = ask("SELECT keep_s FROM preforkd.clock")
    assert round(kept_s) == 5000
    assert isinstance(here.ledger, FleetLedger)
    assert here.ledger._store._keep_s is None


def test_an_upkeep_that_fails_is_told_and_harms_nothing(here: Host, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    here.open()
    ask("ALTER TABLE preforkd.clock RENAME TO clock_away")
    try:
        here.ledger.evict(0.0, 1000)
        for _ in range(2):
            assert commit(here, run_of("a", CLAIMED), run_of("b", CLAIMED)) == GRANTED
            commit(here, run_of("a", RETURNED))
    finally:
        ask("ALTER TABLE preforkd.clock_away RENAME TO clock")
    assert events(caplog) == [Event.FLEET_UPKEEP_FAILED]


# ---- openings that fail -------------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_used_is_told_and_gives_everything_back(
    here: Host, fleet: FleetConfig, postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = store_url(postgresql.port, "postgres")
    cases: list[tuple[FleetConfig, type[LedgerError], str]] = [
        (FleetConfig(store_url(1, "x"), "tests"), LedgerError, "no server listens there"),
        (FleetConfig(store_url(postgresql.port, "absent"), "tests"), LedgerError, "there is no database"),
        (FleetConfig(empty, "tests"), LedgerUnusable, "no schema that this version knows"),
        (FleetConfig(fleet.url, "other"), LedgerUnusable, "belongs to the fleet 'tests'"),
        (FleetConfig("mysql://", "tests"), LedgerUnusable, "url_file"),
    ]
    before = descriptors()
    for config, kind, text in cases:
        host = Host("here", tmp_path / "host", config, monkeypatch)
        with pytest.raises(kind, match=text):
            host.open()
        assert descriptors() == before


def test_a_closed_ledger_has_given_everything_back(here: Host) -> None:
    before = descriptors()
    for _ in range(3):
        commit(here, run_of("a", CLAIMED))
        commit(here, run_of("a", RETURNED))
        here.close()
        here.close()
    assert descriptors() == before
