"""The schema of the fleet ledger: its version, and the statements that make it or bring it to this version.

Pure but for the package's own files: `preforkd fleet init` and `upgrade` execute what is here. `sql/NNN.sql` holds the
tables of version NNN, executed once, in order. All other files hold functions; each is executed again at each change.
Tables only grow, and a function that daemons call is never changed in what it takes and gives: a new one gets the next
number. So daemons of two versions share a fleet during an upgrade.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

Ask = Callable[[str], Sequence[tuple[object, ...]]]
"""Executes one text of SQL, which may hold several statements without parameters, and gives the rows of the last one.
All that is asked in one `install` belongs to one transaction."""

VERSION = 1

FUNCTIONS = ("holder", "turn", "takeover", "operator", "maintain")
"""The files of functions, in the order in which they refer to each other."""

FOR_DAEMONS = (
    *("about_1", "register_1", "resume_1", "mine_1", "turn_1", "leave_1", "holders_1", "maintain_1"),
    *("peers_1", "fence_1", "lose_1"),
)
"""What the role of the daemons may execute. It has no right to any table, and none to other functions."""

_EXCLUSIVE = "SELECT pg_advisory_xact_lock(hashtextextended('preforkd.install', 0))"
_IS_THERE = "SELECT to_regclass('preforkd.meta') IS NOT NULL"
_GET_VERSION = "SELECT value::integer FROM preforkd.meta WHERE name = 'schema'"


@cache
def text(name: str) -> str:
    """The SQL file of this `name` (without .sql)."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text()


def found_version(ask: Ask) -> int:
    """The version that a database has, 0 without a schema. Needs the owner's rights; daemons ask `about_1`."""
    (there,) = ask(_IS_THERE)[0]
    if not there:
        return 0
    (version,) = ask(_GET_VERSION)[0]
    assert isinstance(version, int)
    return version


def install(ask: Ask, fleet: str, daemon: str = "") -> tuple[int, int]:
    """Make the schema, or bring it to this version; gives the version before and after. Again changes nothing.

    `fleet`: its name, written when the schema is made. `daemon`: the role of the daemons, which must be there. Nothing
    is done where the database has a later version than this: (found, found). Raises what `ask` raises.
    """
    ask(_EXCLUSIVE)
    before = found_version(ask)
    if before > VERSION:
        return before, before
    for statement in statements(before, fleet, daemon):
        ask(statement)
    return before, VERSION


def statements(before: int, fleet: str, daemon: str = "") -> list[str]:
    """What brings a database from version `before` (0: it has none) to this one. `fleet`, `daemon`: as `install`."""
    made = [] if before else ["CREATE SCHEMA IF NOT EXISTS preforkd", "REVOKE ALL ON SCHEMA preforkd FROM PUBLIC"]
    tables = [text(f"{number:03}") for number in range(before + 1, VERSION + 1)]
    named = [] if before else [f"INSERT INTO preforkd.meta VALUES ('schema', '0'), ('fleet', {literal(fleet)})"]
    version = [f"UPDATE preforkd.meta SET value = '{VERSION}' WHERE name = 'schema'"]
    functions = [text(name) for name in FUNCTIONS]
    return [*made, *tables, *named, *version, *functions, *rights(daemon)]


def rights(daemon: str = "") -> list[str]:
    """Take all rights from all roles but the owner, and give the role `daemon` what daemons need."""
    others = "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA preforkd FROM PUBLIC"
    if not daemon:
        return [others]
    names = ", ".join(f"preforkd.{name}" for name in FOR_DAEMONS)
    role = identifier(daemon)
    return [others, f"GRANT USAGE ON SCHEMA preforkd TO {role}", f"GRANT EXECUTE ON FUNCTION {names} TO {role}"]


def literal(value: str) -> str:
    """A text `value` as a literal of SQL (standard_conforming_strings)."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
