"""Where the store of a fleet is: the URL of `[fleet] url_file`, taken apart by libpq itself. Pure.

Used by the consumer and by commands. No text that is made here has the URL's password.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from supervisor.logs.redaction import MASK, passwords

DEFAULT_PORT = 5432
_WRITABLE = ("read-write", "primary")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_EXAMPLE = "postgresql://user:password@host:5432/database?sslmode=verify-full"
_NOT_TAKEN = {
    "hostaddr": "write the address as the host",
    "service": "write what the service file has into the URL",
    "replication": "remove it",
    "client_encoding": "remove it: it is always UTF8",
}
_PLACES = ("host", "port")


class Address(NamedTuple):
    """`keywords`: of libpq, but for hosts and ports; they hold the password. `hosts`: names, addresses or folders of
    Unix sockets, each with its port. `shown`: the URL without secrets and parameters."""

    keywords: dict[str, str]
    hosts: tuple[tuple[str, int], ...]
    shown: str

    @property
    def verified(self) -> bool:
        """Whether no other machine can read along or pose as the store: TLS with the name of its host, or a
        socket of this machine."""
        local = all(host.startswith(("/", "@")) or host in ("localhost", "127.0.0.1", "::1") for host, _ in self.hosts)
        return local or self.keywords.get("sslmode") == "verify-full"


def address(url: str) -> Address:
    """Take the URL apart. Raises ValueError: libpq does not take it, or a fleet cannot use it; the text says why."""
    found = _taken_apart(url)
    for name, hint in _NOT_TAKEN.items():
        if found.get(name):
            raise ValueError(f"the parameter {name} is not taken: {hint}")
    if found.get("target_session_attrs", _WRITABLE[0]) not in _WRITABLE:
        raise ValueError("target_session_attrs must be read-write: the fleet writes to its store")
    if found.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(_SSL_MODES)}")
    for name in _FILES:
        if not found.get(name, "/").startswith(("/", "system")):
            raise ValueError(f"{name} must be a whole path: daemons and commands run in different folders")
    hosts = _hosts(found.get("host", ""), found.get("port", ""))
    keywords = {name: value for name, value in found.items() if name not in _PLACES}
    return Address(keywords, hosts, _shown(keywords, hosts))


def _taken_apart(url: str) -> dict[str, str]:
    try:
        found = conninfo_to_dict(url)
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        for secret in sorted(passwords(url), key=len, reverse=True):
            text = text.replace(secret, MASK)
        raise ValueError(f"the URL cannot be read: {text.replace(url, MASK)}; write it as {_EXAMPLE}") from None
    return {name: str(value) for name, value in found.items() if value is not None}


def _hosts(host: str, port: str) -> tuple[tuple[str, int], ...]:
    """As libpq pairs them: one port for all hosts, or one for each; an empty one is the default."""
    hosts, ports = host.split(","), port.split(",")
    if not all(hosts):
        raise ValueError(f"the URL names no host: write {_EXAMPLE}, or …///database?host=/run/postgresql for a socket")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError(f"the URL has {len(hosts)} hosts and {len(ports)} ports: write one port for each host")
    return tuple(zip(hosts, map(_port, ports), strict=True))


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65_536:
        raise ValueError(f"the port {text[:20]!r} is no number from 1 to 65535")
    return int(text)


def _shown(keywords: dict[str, str], hosts: tuple[tuple[str, int], ...]) -> str:
    user = f"{keywords['user']}@" if keywords.get("user") else ""
    places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    return f"postgresql://{user}{places}/{keywords.get('dbname', '')}"
