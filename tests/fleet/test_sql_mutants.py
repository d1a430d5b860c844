"""Each rule of the SQL is needed: without it, some order of statements has an answer that the rules do not explain."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.fleet_scenarios import SCENARIOS
from tests.support.fleet_steps import STEPPED, World, explore
from tests.support.fleet_store import FleetStore

LOOK_FIRST = """
        refused := ARRAY(SELECT g::refusal FROM give_up_settled(me, claims) g);
        claims := ARRAY(SELECT c::entry FROM unnest(claims) c
                         WHERE NOT EXISTS (SELECT FROM unnest(refused) r WHERE r.id = c.id));
        -- step: looked
        RETURN QUERY SELECT * FROM unnest(refused);
        RETURN QUERY SELECT * FROM unnest((SELECT t.refused FROM take(me, claims, current) t));"""

MUTANTS: dict[str, tuple[str, str, str]] = {
    "looks before it claims": (
        r"(?s)SELECT t\.fresh, .*?RETURN QUERY SELECT \* FROM give_up_settled\(me, claims\);",
        LOOK_FIRST,
        "claim, done",
    ),
    "takes no place": (r"ON CONFLICT DO NOTHING", "ON CONFLICT (id, digest) DO UPDATE SET epoch = me", "claim, claim"),
    "begins a turn whatever its number": (
        r"AND holder\.turn = begin_turn\.turn",
        "",
        "a request, resumed and repeated",
    ),
    "begins a turn of a fenced epoch": (r"(begin_turn\.turn) AND state = 'l'", r"\1", "claim, forget"),
    "resumes without another number": (r"SET turn = turn \+ 1", "SET turn = turn", "a request, resumed and repeated"),
    "settles rows of others": (
        r"(?s)(DELETE FROM open o USING unnest.*?)AND o\.epoch = me",
        r"\1",
        "given back twice, claim",
    ),
    "settles rows of other runs": (
        r"(?s)(DELETE FROM open o USING unnest.*?)AND o\.round = s\.round AND o\.attempt = s\.attempt",
        r"\1",
        "a late settle of an earlier run",
    ),
    "leaves the place of what is settled": (
        r"DELETE FROM open o USING refused r WHERE",
        "DELETE FROM open o USING refused r WHERE false AND",
        "claim, done",
    ),
    "forgets what was done in the round": (
        r"\(n\.round = n\.its_round AND n\.state = 'o'\)\s+OR",
        "",
        "claim of a later attempt, done",
    ),
    "grants where the row in the way is gone": (
        r"CONTINUE WHEN NOT FOUND;\n            SELECT \* INTO owner",
        "EXIT WHEN NOT FOUND; SELECT * INTO owner",
        "claim, given back",
    ),
    "claims in the order of the request": (r"c ORDER BY c\.id, c\.digest", "c", "claims of other orders"),
    "settles before it claims": (
        r"-- step: begun\n",
        "-- step: begun\n IF settle_ids <> '{}' THEN PERFORM settle(me, as_entries(settle_ids, settle_digests, "
        "settle_rounds, settle_attempts, settle_states, settle_names, settle_notes), current_part()); END IF;\n",
        "claims of what another settles, crosswise",
    ),
    "adopts what another has adopted": (r"AND o\.epoch = other\.epoch", "", "adopt the same decision twice"),
    "adopts as if nothing was decided": (r"AND other\.state IN \('c', pending\)", "", "adopt a decision, adopt"),
    "adopts from a living holder": (r"owner\.lost AND \(order_", "true AND (order_", "claim, retry, its copy"),
    "writes a forgotten outcome without a place": (
        r"(?s)plpgsql STABLE( SET search_path = preforkd, pg_temp\nAS \$\$\nDECLARE\n    missing.*?)RETURN QUERY\n",
        r"plpgsql\1INSERT INTO settled (id, digest, epoch, round, attempt, part, state, name, note)"
        " SELECT m.id, m.digest, me, m.round, m.attempt, 1, m.state, '', '' FROM unnest(missing) m; RETURN; ",
        "settle of a forgotten row, claim",
    ),
    "writes a repeated outcome twice": (r"AND t\.state = m\.state", "AND false", "a request, resumed and repeated"),
    "registers beside a live holder": (r"former\.place <> register_1\.place", "false", "register, register"),
    "registers without its rows": (
        r"UPDATE open o SET epoch = register_1\.epoch",
        "UPDATE open o SET epoch = o.epoch",
        "settle, register",
    ),
    "registers without order": (
        r"ORDER BY o\.id, o\.digest FOR UPDATE",
        "FOR UPDATE",
        "adopt, the host is back, rows in another order",
    ),
    "registers without waiting": (r"AND h\.state = 'l' FOR UPDATE", "AND h.state = 'l'", "register by silence, claim"),
    "registers after any silence": (
        r"\(former\.epoch, former\.turn\) IS DISTINCT FROM \(silent, silent_turn\)",
        "former.epoch IS DISTINCT FROM silent",
        "register by a silence that ended, claim",
    ),
    "registers both at once": (
        r"PERFORM pg_advisory_xact_lock\(hashtextextended\('preforkd.register[^;]*;",
        "",
        "the first register, twice",
    ),
    "forgets without a word": (r"lost = true, ", "", "claim, forget"),
    "leaves with open rows": (
        r"AND NOT EXISTS \(SELECT FROM open o WHERE o\.epoch = me\)",
        "",
        "leave with a row, claim",
    ),
    "forgets a pending copy of an earlier run": (r"IF replaced <> '\{\}' THEN", "IF false THEN", "adopt, a later run"),
    "fences whatever its turn": (r" AND h\.turn = seen_turn", "", "fence, a call"),
    "fences one that has ended": (r"(WHERE h\.epoch = other) AND h\.state = 'l'", r"\1", "fence, fence"),
    "fences without a lock": (
        r"ORDER BY h\.epoch FOR UPDATE;\n    -- step: both",
        "; -- step: both",
        "fence each other",
    ),
    "ends another after its own end": (
        r"IF NOT EXISTS (\(SELECT FROM holder h WHERE h\.epoch = me)",
        r"IF false AND NOT EXISTS \1",
        "fence each other",
    ),
    "loses one that lives": (r"h\.epoch = other AND h\.state = 'f'", "h.epoch = other", "lose one that lives"),
    "loses one again": (r"(h\.epoch = other AND h\.state = 'f') AND NOT h\.lost", r"\1", "lose, lose"),
    "adopts from one that is fenced": (r"owner\.lost AND \(order_", "owner.state = 'f' AND (order_", "fence, settle"),
}


@pytest.fixture
def world(fleet_database: FleetStore) -> Iterator[World]:
    world = World(fleet_database)
    yield world
    world.release()
    fleet_database.close()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_that_is_left_out_is_missed(world: World, name: str) -> None:
    pattern, text, scenario = MUTANTS[name]
    world.store.make([(pattern, text), *STEPPED])
    with pytest.raises(AssertionError) as told:
        explore(world, SCENARIOS[scenario], 2)
    assert re.search("no order explains|wait for each other|23505", str(told.value)), told.value
