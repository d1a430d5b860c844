"""What servers, libpq and poolers say about a store, in plain words; tests/fleet has the same texts from real ones."""

from __future__ import annotations

import pytest

from supervisor.fleet.reasons import explained

_AT = 'connection to server at "10.0.0.7", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (
            'connection to server at "localhost" (::1), port 5999 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?",
            "no server listens there (localhost:5999): start PostgreSQL, or correct host and port in the URL",
        ),
        (
            'connection to server on socket "/run/x/.s.PGSQL.5432" failed: No such file or directory\n'
            "\tIs the server running locally and accepting connections on that socket?",
            "there is no socket of a server (/run/x/.s.PGSQL.5432): start PostgreSQL, or correct the folder of its "
            "sockets in the URL",
        ),
        (
            'could not translate host name "dbb" to address: Name or service not known',
            "there is no host dbb: correct the host in the URL, or the name server",
        ),
        (
            f'{_AT}FATAL:  password authentication failed for user "ann"',
            "the user ann or its password is wrong (10.0.0.7:5432): correct both in the file of fleet.url_file",
        ),
        (
            f"{_AT}session is read-only",
            "the server is a standby, or read-only (10.0.0.7:5432): name the primary in the URL, or all hosts of the "
            "cluster (@one,two/): the fleet writes to its store",
        ),
        (
            'connection to server at "::1", port 5432 failed: FATAL:  sorry, too many clients already',
            "the server takes no more connections ([::1]:5432): raise max_connections (or the limit of the role, "
            "database or pooler); each pool of each host needs one",
        ),
        (
            f'{_AT}FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "ann", database "fleet", no encryption',
            "the server does not let ann from 10.0.0.9 into database fleet without TLS (10.0.0.7:5432): add "
            "sslmode=verify-full to the URL, or an entry to the server's pg_hba.conf",
        ),
        (
            f'{_AT}FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "ann", database "fleet", SSL encryption',
            "the server does not let ann from 10.0.0.9 into database fleet (10.0.0.7:5432): add an entry to its "
            "pg_hba.conf and reload it",
        ),
    ],
)
def test_a_known_text_becomes_a_reason_and_an_advice(text: str, plain: str) -> None:
    assert explained("", text) == plain


def test_an_unknown_text_stays_without_severity_and_place_in_one_line() -> None:
    assert explained("", f"{_AT}FATAL:  the moon\nis full") == "the moon is full (10.0.0.7:5432)"
    assert explained("XX000", "it broke") == "it broke"


def test_a_translated_text_gets_the_advice_by_its_sqlstate() -> None:
    said = explained("28P01", "Passwort-Authentifizierung für Benutzer »ann« fehlgeschlagen")
    assert said == (
        "Passwort-Authentifizierung für Benutzer »ann« fehlgeschlagen: correct both in the file of fleet.url_file"
    )


def test_a_missing_function_is_an_older_schema() -> None:
    said = explained("42883", "function preforkd.turn_2(bigint, bigint) does not exist")
    assert said == (
        "the schema in the database is older than this preforkd, which calls preforkd.turn_2: `preforkd fleet upgrade`"
    )
