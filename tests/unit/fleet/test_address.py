"""The URL of a fleet's store, taken apart; what a fleet cannot use is refused, and no text has the password."""

from __future__ import annotations

import pytest

from supervisor.fleet.address import Address, address


def test_a_whole_url_is_taken_apart() -> None:
    url = "postgresql://ann:p%2Fw@one:5433,two,[::1]:5434/fleet?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    assert address(url) == Address(
        keywords={
            "user": "ann",
            "password": "p/w",
            "dbname": "fleet",
            "sslmode": "verify-full",
            "sslrootcert": "/etc/ca.pem",
        },
        hosts=(("one", 5433), ("two", 5432), ("::1", 5434)),
        shown="postgresql://ann@one:5433,two:5432,[::1]:5434/fleet",
    )


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://db", (("db", 5432),)),
        ("postgresql:///fleet?host=/run/postgresql", (("/run/postgresql", 5432),)),
        ("postgresql://a,b/fleet?port=6432", (("a", 6432), ("b", 6432))),
        ("postgresql:///fleet?host=a,b&port=1,2", (("a", 1), ("b", 2))),
        ("postgresql://h:1/fleet?target_session_attrs=primary&sslrootcert=system", (("h", 1),)),
    ],
)
def test_hosts_and_ports_are_paired_as_libpq_pairs_them(url: str, hosts: tuple[tuple[str, int], ...]) -> None:
    assert address(url).hosts == hosts


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:///fleet", "the URL names no host: write postgresql://user:password@host"),
        ("postgresql://a,,b/fleet", "the URL names no host"),
        ("postgresql://u:geheim@h:99999/fleet", "the port '99999' is no number from 1 to 65535"),
        ("postgresql://u:geheim@h:x/fleet", "the port 'x' is no number"),
        ("postgresql:///fleet?host=a,b,c&port=1,2", "3 hosts and 2 ports: write one port for each host"),
        ("postgresql://u:geheim@h/fleet?sslmod=require", 'invalid URI query parameter: "sslmod"'),
        ("postgresql://u:geheim@h/fleet?sslmode=yes", "sslmode must be one of disable, allow"),
        ("postgresql://u:geheim%ZZ@h/fleet", 'invalid percent-encoded token: "***"'),
        ("postgresql://u:geheim@[::1/fleet", "the URL cannot be read"),
        ("postgresql://u:geheim@[::1]x/fleet", "the URL cannot be read"),
        (
            "postgresql://h/fleet?hostaddr=10.0.0.1",
            "the parameter hostaddr is not taken: write the address as the host",
        ),
        ("postgresql://h/fleet?service=prod", "the parameter service is not taken"),
        ("postgresql://h/fleet?replication=database", "the parameter replication is not taken"),
        ("postgresql://h/fleet?target_session_attrs=standby", "target_session_attrs must be read-write"),
        ("postgresql://h/fleet?sslrootcert=ca.pem", "sslrootcert must be a whole path"),
    ],
)
def test_what_a_fleet_cannot_use_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        address(url)
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("postgresql://db/fleet", False),
        ("postgresql://db/fleet?sslmode=require", False),
        ("postgresql://db/fleet?sslmode=verify-full", True),
        ("postgresql://localhost/fleet", True),
        ("postgresql://127.0.0.1,db/fleet", False),
        ("postgresql:///fleet?host=/run/postgresql", True),
    ],
)
def test_a_way_that_other_machines_may_read_is_known(url: str, verified: bool) -> None:
    assert address(url).verified is verified
