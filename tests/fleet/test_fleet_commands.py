"""`preforkd fleet` on a real PostgreSQL: what each command does and says, as owner and as the role of the daemons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.fleet.schema import FOR_DAEMONS
from tests.support.postgresql import PostgreSQL
from tests.support.site import Site, make_site

_REGISTER = (
    "SELECT epoch FROM preforkd.register_1(gen_random_uuid(), 'place', '{host}', 'mail', 'mail', 90, 300, 7, '0.1.0')"
)


class FleetSite:
    """A host with a configuration of a fleet. `url`: of the daemons; `owner`: the file with the URL of the owner."""

    def __init__(self, site: Site, server: PostgreSQL, database: str) -> None:
        self.site, self.server, self.database = site, server, database
        self.url = site.folder / "fleet-url"
        self.owner = site.folder / "owner-url"
        for file, user in ((self.url, "daemons"), (self.owner, "postgres")):
            self.write(file, f"postgresql://{user}@127.0.0.1:{server.port}/{database}")
        text = site.config.read_text().replace("embedded:", "amqp://127.0.0.1:1/")
        site.config.write_text(f'{text}[fleet]\nurl_file = "fleet-url"\nname = "tests"\n')

    @staticmethod
    def write(file: Path, url: str) -> None:
        """A file that holds a URL."""
        file.touch(mode=0o600)
        file.write_text(url)

    def as_owner(self, *words: str) -> str:
        """What a command of the owner says."""
        return self.site.ok("fleet", *words, "--url-file", str(self.owner))

    def refused(self, *words: str) -> tuple[int, str]:
        """Exit status and complaint of a command."""
        done = self.site.cli("fleet", *words)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """As the superuser."""
        return self.server.ask(self.database, sql)

    def register(self, host: str, claimed: int = 0) -> int:
        """Let a pool of `host` be there, with some messages in hand; its epoch."""
        ((epoch,),) = self.ask(_REGISTER.format(host=host))
        assert isinstance(epoch, int)
        for number in range(claimed):
            self.ask(
                f"INSERT INTO preforkd.open VALUES (md5('{host}{number}')::uuid, {number}, {epoch}, now(), 1, 1, 'c')"
            )
        return epoch


@pytest.fixture
def fleet(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[FleetSite]:
    if not postgresql.ask("", "SELECT 1 FROM pg_roles WHERE rolname = 'daemons'"):
        postgresql.ask("", "CREATE ROLE daemons LOGIN")
    with make_site(tmp_path) as site:
        yield FleetSite(site, postgresql, postgresql.new_database())


@pytest.fixture
def made(fleet: FleetSite) -> FleetSite:
    fleet.as_owner("init", "--role", "daemons")
    return fleet


def test_init_makes_the_schema_and_tells_how_daemons_get_in(fleet: FleetSite) -> None:
    said = fleet.as_owner("init")
    assert "the schema preforkd is made, version 1; its owner is postgres" in said
    assert "CREATE ROLE preforkd LOGIN PASSWORD" in said

    assert "daemons may use it as daemons: functions only, no table" in fleet.as_owner("init", "--role", "daemons")
    assert "the schema preforkd is there, version 1" in fleet.as_owner("init"), "again it changes nothing"


def test_the_role_of_the_daemons_may_call_functions_and_read_no_table(made: FleetSite) -> None:
    for name in FOR_DAEMONS:
        ((allowed,),) = made.ask(
            f"SELECT has_function_privilege('daemons', oid, 'EXECUTE') FROM pg_proc WHERE proname = '{name}'"
        )
        assert allowed, name
    tables = made.ask("SELECT relname FROM pg_class WHERE relnamespace = 'preforkd'::regnamespace AND relkind = 'r'")
    for (table,) in tables:
        assert made.ask(f"SELECT has_table_privilege('daemons', 'preforkd.{table}', 'SELECT')") == [(False,)]


def test_init_with_the_rights_of_daemons_is_refused(fleet: FleetSite) -> None:
    status, said = fleet.refused("init")
    assert (status, "permission denied for database" in said or "may not" in said or "owner" in said) == (1, True), said


def test_init_names_a_role_that_is_missing(fleet: FleetSite) -> None:
    status, said = fleet.refused("init", "--role", "lost", "--url-file", str(fleet.owner))
    assert status == 1
    assert 'there is no role lost: CREATE ROLE "lost" LOGIN PASSWORD' in said


def test_a_store_of_another_fleet_is_refused(made: FleetSite) -> None:
    config = made.site.config
    config.write_text(config.read_text().replace('"tests"', '"other"'))
    status, said = made.refused("init", "--url-file", str(made.owner))
    assert status == 1
    assert "the database is the store of the fleet tests, and fleet.name is other" in said
    done = made.site.cli("fleet", "check")
    assert done.returncode == 78
    assert "fleet.name: other: the database is the store of the fleet tests" in done.stdout


def test_a_later_schema_is_left_alone(made: FleetSite) -> None:
    made.ask("UPDATE preforkd.meta SET value = '99' WHERE name = 'schema'")
    status, said = made.refused("upgrade", "--url-file", str(made.owner))
    assert status == 1
    assert "has version 99, and this preforkd knows 1: install a later one" in said


def test_upgrade_wants_a_schema_and_keeps_the_rights(fleet: FleetSite) -> None:
    status, said = fleet.refused("upgrade", "--url-file", str(fleet.owner))
    assert (status, "`preforkd fleet init` makes it" in said) == (1, True)
    fleet.as_owner("init", "--role", "daemons")
    fleet.ask("REVOKE EXECUTE ON FUNCTION preforkd.holders_1() FROM daemons")  # as if it were a new one

    assert "daemons may use it as daemons" in fleet.as_owner("upgrade")

    assert fleet.site.ok("fleet", "status") == "no pool of any host is there, and no message is in hand\n"


def test_a_database_that_is_not_utf8_is_refused(fleet: FleetSite) -> None:
    name = f"{fleet.database}_ascii"
    fleet.server.ask("", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' STRATEGY file_copy")
    fleet.write(fleet.owner, f"postgresql://postgres@127.0.0.1:{fleet.server.port}/{name}")
    status, said = fleet.refused("init", "--url-file", str(fleet.owner))
    assert (status, "the database has the encoding SQL_ASCII" in said) == (1, True)


def test_check_says_what_the_daemon_has(made: FleetSite) -> None:
    said = made.site.ok("fleet", "check")
    assert f"postgresql://daemons@127.0.0.1:{made.server.port}/{made.database}, PostgreSQL" in said
    assert "ok      fleet.name: tests, schema 1, as daemons" in said


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP SCHEMA preforkd CASCADE", "the database has no schema preforkd: `preforkd fleet init` makes it"),
        ("REVOKE USAGE ON SCHEMA preforkd FROM daemons", "daemons may not call"),
        (
            "REVOKE EXECUTE ON FUNCTION preforkd.holders_1() FROM daemons",
            "daemons may not call holders_1: `pref",
        ),
        ("UPDATE preforkd.meta SET value = '0' WHERE name = 'schema'", "`preforkd fleet upgrade`"),
    ],
)
def test_check_names_what_is_missing_and_the_command_that_mends_it(made: FleetSite, sql: str, said: str) -> None:
    made.ask(sql)
    done = made.site.cli("fleet", "check")
    assert done.returncode == 1, done.stdout
    assert said in done.stdout


def test_check_of_the_whole_file_looks_at_the_store(made: FleetSite) -> None:
    done = made.site.cli("check")
    assert "fleet.name: tests, schema 1, as daemons" in done.stdout, done.stdout + done.stderr


def test_hosts_of_a_queue_with_other_settings_are_named(made: FleetSite) -> None:
    made.register("elsewhere")
    said = made.site.ok("fleet", "check")
    assert "warning pools.mail: elsewhere run(s) queue mail with other settings" in said


def test_an_ack_timeout_that_is_shorter_than_another_hosts_run_is_doubted(made: FleetSite) -> None:
    config = made.site.config
    config.write_text(config.read_text().replace("workers = 1", 'workers = 1\nmax_timeout = "28m"'))
    said = made.site.ok("fleet", "check")
    assert "a message of another host may be held for 30m" in said


def test_status_is_a_table_or_a_line_of_json_each(made: FleetSite) -> None:
    made.register("alpha", claimed=2)
    header, row = made.site.ok("fleet", "status").splitlines()
    assert header.split() == ["HOST", "POOL", "QUEUE", "STATE", "LAST", "CALL", "IN", "HAND", "PENDING", "VERSION"]
    assert row.split() == ["alpha", "mail", "mail", "live", row.split()[4], "ago", "2", "0", "0.1.0"]
    facts = json.loads(made.site.ok("fleet", "status", "--json"))
    assert (facts["host"], facts["state"], facts["claimed"], facts["lost"]) == ("alpha", "live", 2, False)


def test_a_living_host_is_not_forgotten_without_force(made: FleetSite) -> None:
    made.register("alpha", claimed=1)
    status, said = made.refused("forget", "alpha", "--yes", "--url-file", str(made.owner))
    assert status == 1
    assert "within its lease of 1m30s: it lives" in said
    assert "they may run twice at a time" in said
    assert made.ask("SELECT state::text, lost FROM preforkd.holder") == [("l", False)]

    said = made.as_owner("forget", "alpha", "--yes", "--force")
    assert "host alpha is declared lost: 1 pool(s), 1 message(s) in hand; these are in doubt once another host" in said
    assert made.ask("SELECT state::text, lost FROM preforkd.holder") == [("f", True)]


def test_a_silent_host_is_forgotten_after_a_yes(made: FleetSite) -> None:
    made.register("alpha", claimed=3)
    made.ask("UPDATE preforkd.holder SET turned_at = now() - interval '91 s'")
    assert "silent" in made.site.ok("fleet", "status")
    declined = made.site.cli("fleet", "forget", "alpha", "--url-file", str(made.owner), stdin="n\n")
    assert declined.returncode == 130
    assert "Declare 1 pool(s) of host alpha lost, with 3 message(s) in hand?" in declined.stdout
    assert made.ask("SELECT lost FROM preforkd.holder") == [(False,)]

    done = made.site.cli("fleet", "forget", "alpha", "--url-file", str(made.owner), stdin="y\n")
    assert done.returncode == 0, done.stderr
    assert "lost" in made.site.ok("fleet", "status")


def test_a_host_that_was_fenced_is_shown_with_the_one_that_did_it_and_may_be_forgotten(made: FleetSite) -> None:
    made.register("alpha", claimed=1)
    made.register("beta")
    made.ask(
        "SELECT preforkd.fence_1(b.epoch, a.epoch, a.turn) FROM preforkd.holder a, preforkd.holder b "
        "WHERE a.host = 'alpha' AND b.host = 'beta'"
    )
    assert "fenced by beta" in made.site.ok("fleet", "status")
    facts = json.loads(made.site.ok("fleet", "status", "--json").splitlines()[0])
    assert (facts["state"], facts["fenced_by"], facts["lost_by"]) == ("fenced", "beta", "")
    said = made.as_owner("forget", "alpha", "--yes")
    assert "host alpha is declared lost: 1 pool(s), 1 message(s) in hand" in said
    facts = json.loads(made.site.ok("fleet", "status", "--json").splitlines()[0])
    assert (facts["state"], facts["fenced_by"], facts["lost_by"]) == ("lost", "beta", "")


def test_only_the_owner_may_forget(made: FleetSite) -> None:
    made.register("alpha")
    made.ask("UPDATE preforkd.holder SET turned_at = now() - interval '91 s'")
    status, said = made.refused("forget", "alpha", "--yes")
    assert (status, "only the owner of the schema may declare a host lost" in said) == (1, True), said
    status, said = made.refused("forget", "beta", "--yes")
    assert (status, "no pool of host beta is live" in said) == (1, True)


def test_a_file_without_the_section_is_told_where_to_read(fleet: FleetSite) -> None:
    config = fleet.site.config
    config.write_text(config.read_text().partition("[fleet]")[0])
    for words in (["status"], ["check"], ["init"]):
        status, said = fleet.refused(*words)
        assert (status, "fleet: there is no such section" in said) == (78, True), said


def test_the_commands_need_no_variable_of_the_broker(made: FleetSite) -> None:
    config = made.site.config
    config.write_text(config.read_text().replace("amqp://127.0.0.1:1/", "${BROKER_URL}"))
    assert "no pool" in made.site.ok("fleet", "status")
    assert "version 1" in made.as_owner("upgrade")
