"""The watch on another place of a ledger, and what must agree in a fleet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.config.schema import LedgerConfig, PoolConfig
from supervisor.fleet.calls import Blocker, Meaning, meaning
from supervisor.fleet.settings import settings_hash
from supervisor.ledger.base import RowState
from supervisor.ledger.fleet_opening import Watch, is_tracked, place_of
from tests.support.ledgers import row_of

BLOCKER = Blocker(7, 40, "there", 90.0)
POOL = PoolConfig("email", "email", "m:f")


def watched(*looks: tuple[float, Blocker]) -> Watch:
    watch = Watch()
    for now_s, blocker in looks:
        watch.look(blocker, now_s)
    return watch


def test_a_blocker_is_silent_after_its_lease_and_a_rest_and_not_before() -> None:
    watch = watched((1000.0, BLOCKER), (1050.0, BLOCKER), (1090.0, BLOCKER))
    assert watch.silent(1000.0 + 92.8) is None
    assert watch.silent(1000.0 + 93.0) == BLOCKER


def test_a_call_of_the_blocker_begins_the_wait_again() -> None:
    later = BLOCKER._replace(turn=41)
    watch = watched((1000.0, BLOCKER), (1050.0, BLOCKER), (1080.0, later), (1093.0, later))
    assert watch.silent(1094.0) is None
    assert watch.look(later, 1094.0) == pytest.approx(1080.0 + 92.9 - 1094.0)


def test_a_gap_begins_the_wait_again_for_the_store_may_have_been_away() -> None:
    watch = watched((1000.0, BLOCKER), (1080.0, BLOCKER))
    assert watch.silent(1094.0) is None
    assert watched((1000.0, BLOCKER)).silent(1100.0) is None


def test_another_epoch_is_another_blocker() -> None:
    assert watched((1000.0, BLOCKER), (1050.0, BLOCKER._replace(epoch=8))).silent(1094.0) is None


def test_a_copied_folder_is_another_place_and_a_moved_one_is_not(tmp_path: Path) -> None:
    first, copy, moved = tmp_path / "first", tmp_path / "copy", tmp_path / "moved"
    first.mkdir()
    place = place_of(first)
    shutil.copytree(first, copy)
    assert place_of(copy) != place
    first.rename(moved)
    assert place_of(moved) == place


@pytest.mark.parametrize(
    ("sqlstate", "means"),
    [
        ("", Meaning.RECONNECT),
        ("PF001", Meaning.ENDED),
        ("PF002", Meaning.ENDED),
        ("55P03", Meaning.AGAIN),
        ("40P01", Meaning.AGAIN),
        ("40001", Meaning.AGAIN),
        ("57014", Meaning.AGAIN),
        ("53100", Meaning.AGAIN),
        ("57P01", Meaning.RECONNECT),
        ("57P03", Meaning.RECONNECT),
        ("25006", Meaning.RECONNECT),
        ("08006", Meaning.RECONNECT),
        ("40003", Meaning.RECONNECT),
        ("42501", Meaning.BROKEN),
        ("42883", Meaning.BROKEN),
        ("XX000", Meaning.BROKEN),
    ],
)
def test_an_error_of_the_store_means_one_thing(sqlstate: str, means: Meaning) -> None:
    assert meaning(sqlstate) is means


def test_only_a_first_run_under_an_id_of_ours_is_unknown_to_the_fleet() -> None:
    given = replace(row_of("a", RowState.DISPATCHED), id="preforkd-" + 32 * "0")
    assert not is_tracked(given)
    assert is_tracked(replace(given, attempt=2)) and is_tracked(replace(given, round=2))
    assert is_tracked(row_of("a"))


def test_settings_that_decide_about_messages_must_agree_and_others_need_not() -> None:
    agreed = settings_hash(POOL, LedgerConfig())
    assert -(2**63) <= agreed < 2**63
    assert settings_hash(replace(POOL, workers=9, timeout_s=1.0), LedgerConfig(sync="normal")) == agreed
    for other in (replace(POOL, on_crash="park"), replace(POOL, max_attempts=1), replace(POOL, id_header="x")):
        assert settings_hash(other, LedgerConfig()) != agreed
    assert settings_hash(POOL, LedgerConfig(dedupe="redelivery")) != agreed
