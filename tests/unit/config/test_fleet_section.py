"""[fleet]: what it may be, what does not go with it, and that no problem shows the URL's password."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.config.load import interpret
from supervisor.config.schema import Config, FleetConfig
from supervisor.errors import ConfigError

URL = "postgresql://preforkd:geheim@db:5432/preforkd?sslmode=verify-full"
BROKER = '[broker]\nurl = "amqp://host"\n'
POOL = '[pools.email]\nqueue = "email"\nhandler = "myapp.email:send"\n'
NAMES = 'url_file = "url"\nname = "prod"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, URL)
    return tmp_path


def written(folder: Path, text: str) -> None:
    (folder / "url").write_text(f"{text}\n")
    (folder / "url").chmod(0o600)


def read(folder: Path, fleet: str, rest: str = BROKER + POOL) -> Config:
    return interpret(tomllib.loads(f"[fleet]\n{fleet}\n{rest}"), folder / "preforkd.toml", {})


def only_problem(folder: Path, fleet: str, rest: str = BROKER + POOL) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, fleet, rest)
    (problem,) = caught.value.problems
    assert "geheim" not in str(caught.value)
    return str(problem)


def test_without_the_section_there_is_no_fleet(folder: Path) -> None:
    config = interpret(tomllib.loads(BROKER + POOL), folder / "preforkd.toml", {})
    assert config.fleet is None
    assert config.secret_urls == ("amqp://host",)


def test_the_url_comes_from_its_file(folder: Path) -> None:
    config = read(folder, NAMES)
    assert config.fleet == FleetConfig(URL, "prod", 90.0)
    assert config.secret_urls == ("amqp://host", URL)


@pytest.mark.parametrize(("lease", "seconds"), [("30s", 30.0), ("1h", 3600.0)])
def test_a_lease_at_the_edge_is_accepted(folder: Path, lease: str, seconds: float) -> None:
    fleet = read(folder, f'{NAMES}lease = "{lease}"').fleet
    assert fleet is not None
    assert fleet.lease_s == seconds


@pytest.mark.parametrize(
    ("fleet", "said"),
    [
        ('url_file = "url"', "fleet.name: this key is required"),
        ('name = "prod"', "fleet.url_file: this key is required"),
        ('url_file = ""\nname = "prod"', 'fleet.url_file = "": this key is required'),
        ('url_file = 3\nname = "prod"', "fleet.url_file = 3: expected a string"),
        ('url_file = "other"\nname = "prod"', "cannot be read: No such file"),
        (f'url_file = "{URL}"\nname = "prod"', "expected the path of a file with the URL, got a URL"),
        (f'url = "{URL}"\n{NAMES}', "fleet.url = "),
        ('url_file = "url"\nname = ""', "must be 1 to 63 ASCII letters"),
        ('url_file = "url"\nname = "a b"', "must be 1 to 63 ASCII letters"),
        (f'url_file = "url"\nname = "{"n" * 64}"', "must be 1 to 63 ASCII letters"),
        (f'{NAMES}lease = "29s"', 'fleet.lease = "29s": must be from 30s to 1h'),
        (f'{NAMES}lease = "61m"', "must be from 30s to 1h"),
        (f'{NAMES}leese = "60s"', 'did you mean "lease"?'),
    ],
)
def test_a_section_that_cannot_work_is_refused(folder: Path, fleet: str, said: str) -> None:
    assert said in only_problem(folder, fleet)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "contains no URL"),
        (f"{URL}\n{URL}", "contains several lines (write one URL"),
        ("mysql://u:geheim@h/db", 'the URL in it must be "postgresql://user:password@host/database'),
        ("host=db password=geheim", "the URL in it contains a blank"),
        ("postgresql:/u:geheim@h/db", "the URL in it must be"),
        ("postgresql://u:gehe/geheim@h/db", "write / as %2F"),
        ("postgresql://u:gehe@geheim@h/db", "@ as %40"),
        ("postgresql://u:gehe?geheim@h/db", "? as %3F"),
    ],
)
def test_a_file_without_one_url_of_postgresql_is_refused(folder: Path, url: str, said: str) -> None:
    written(folder, url)
    problem = only_problem(folder, NAMES)
    assert said in problem
    assert 'fleet.url_file = "url"' in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgres://db",
        "postgresql:///preforkd?host=/run/postgresql",
        "postgresql://u:p%2Fw@one:5432,two:5433,[::1]/db?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ],
)
def test_what_libpq_takes_is_accepted(folder: Path, url: str) -> None:
    written(folder, url)
    assert read(folder, NAMES).fleet == FleetConfig(url, "prod")


def test_a_file_that_other_users_may_read_is_refused(folder: Path) -> None:
    (folder / "url").chmod(0o602)
    assert "all users may write to" in only_problem(folder, NAMES)


@pytest.mark.parametrize("rest", [POOL, f'[broker]\nurl = "embedded:"\n{POOL}'])
def test_the_embedded_queue_has_no_fleet(folder: Path, rest: str) -> None:
    assert "the embedded queue is this host's alone" in only_problem(folder, NAMES, rest)


def test_an_exclusive_pool_is_in_no_fleet(folder: Path) -> None:
    problem = only_problem(folder, NAMES, f"{BROKER}{POOL}exclusive = true\n")
    assert "pools.email.exclusive = true: it keeps the other hosts of the fleet from the queue" in problem


def test_a_fleet_remembers_ids_whatever_the_broker_says(folder: Path) -> None:
    problem = only_problem(folder, NAMES, f'{BROKER}{POOL}[ledger]\ndedupe = "redelivery"\n')
    assert 'ledger.dedupe = "redelivery": in a fleet a message that another host has returned' in problem


def test_a_section_that_is_no_table_is_one_problem() -> None:
    with pytest.raises(ConfigError, match=r"1 problem\(s\)\n  fleet = 3: expected a table of keys"):
        interpret(tomllib.loads(f"fleet = 3\n{BROKER}{POOL}"), Path("/etc/preforkd/preforkd.toml"), {})
