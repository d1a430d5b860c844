"""What PostgreSQL, libpq and pgbouncer say when there is no store, in plain words, and what to do about it. Pure.

A table from the texts that they are known to give. The text of a server may be translated (`lc_messages`); then the
SQLSTATE counts, and a text that is in no row is given as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PLACE = r'connection to server at "(?P<host>[^"]*)"(?: \([^)]*\))?, port (?P<port>\d+) failed: '
_WHERE = re.compile(_PLACE)
_SOCKET = re.compile(r'connection to server on socket "(?P<path>[^"]*)" failed: ')
_SEVERITY = re.compile(r"^(?:FATAL|ERROR|PANIC): +")
_GUESS = re.compile(
    r" (?:Is the server running|Is another|Make sure|Either provide|Did you mean|Hint:|HINT:|DETAIL:).*"
)


class Reason(NamedTuple):
    """`states`: the SQLSTATEs that mean it, with a space between. `pattern`: what the text contains. `said`: the plain
    words, which may name the groups of the pattern ("": the server's own text). `advice`: what to do."""

    states: str
    pattern: str
    said: str
    advice: str


_TABLE = (
    # ---- the way there
    Reason(
        "",
        r'could not translate host name "(?P<name>[^"]*)" to address|'
        r"(?P<found>\S+) cannot be looked up|failed to resolve host '(?P<other>[^']*)'|"
        r"Name or service not known",
        "there is no host {name}{found}{other}",
        "correct the host in the URL, or the name server",
    ),
    Reason(
        "",
        r"Connection refused",
        "no server listens there",
        "start PostgreSQL, or correct host and port in the URL",
    ),
    Reason(
        "",
        r"No such file or directory|is not a socket",
        "there is no socket of a server",
        "start PostgreSQL, or correct the folder of its sockets in the URL",
    ),
    Reason(
        "",
        r"timeout expired|timed out|no connection within|No route to host|Network is unreachable|Host is down",
        "",
        "see whether the host is up, and whether a firewall lets this host through",
    ),
    Reason(
        "",
        r"expected authentication request from server|invalid response to SSL negotiation|unexpected message from",
        "what listens there is no PostgreSQL",
        "correct host and port in the URL",
    ),
    # ---- TLS
    Reason(
        "",
        r"server does not support SSL",
        "the server has no TLS, and the URL asks for it",
        "set ssl = on and a certificate there (PostgreSQL, ssl_cert_file), or choose another sslmode",
    ),
    Reason(
        "",
        r'root certificate file "(?P<path>[^"]*)" does not exist|'
        r'could not read root certificate file "(?P<other>[^"]*)"',
        "the authorities in {path}{other} cannot be read",
        "name the file of the authority that has signed the server's certificate: sslrootcert=/etc/preforkd/ca.pem",
    ),
    Reason(
        "",
        r"certificate verify failed",
        "the server's certificate is not signed by a known authority, or is not valid now",
        "name the file of its authority in the URL: sslrootcert=/etc/preforkd/ca.pem",
    ),
    Reason(
        "",
        r'server certificate for "(?P<name>[^"]*)"(?: \(.*\))? does not match host name "(?P<asked>[^"]*)"',
        "the server's certificate is for {name}, the URL names {asked}",
        "write the name of the certificate into the URL, or have a certificate for this name made",
    ),
    Reason(
        "",
        r'(?:private key|certificate) file "[^"]*" (?:does not exist|has group or world access|must be owned)',
        "",
        "correct sslcert and sslkey in the URL; the key may be readable by preforkd's user only",
    ),
    Reason(
        "",
        r"weak sslmode|certificate required|unknown ca|SSL error|tlsv1 alert|no application protocol",
        "",
        "correct sslmode, sslrootcert, sslcert and sslkey in the URL",
    ),
    # ---- who may come in
    Reason(
        "28P01",
        r'password authentication failed(?: for user "(?P<user>[^"]*)")?|SASL authentication failed|auth failed',
        "the user {user} or its password is wrong",
        "correct both in the file of fleet.url_file",
    ),
    Reason(
        "",
        r"no password supplied|empty password returned",
        "the server asks for a password, and the URL has none",
        "write it into the file of fleet.url_file: postgresql://user:password@…",
    ),
    Reason(
        "",
        r'no pg_hba.conf entry for (?:replication connection from )?host "(?P<host>[^"]*)", user "(?P<user>[^"]*)", '
        r'database "(?P<database>[^"]*)", (?P<how>no encryption|SSL off)',
        "the server does not let {user} from {host} into database {database} without TLS",
        "add sslmode=verify-full to the URL, or an entry to the server's pg_hba.conf",
    ),
    Reason(
        "",
        r'(?:no pg_hba.conf entry|pg_hba.conf rejects connection) for host "(?P<host>[^"]*)", '
        r'user "(?P<user>[^"]*)", database "(?P<database>[^"]*)"',
        "the server does not let {user} from {host} into database {database}",
        "add an entry to its pg_hba.conf and reload it",
    ),
    Reason(
        "",
        r'(?:Peer|Ident|certificate) authentication failed for user "(?P<user>[^"]*)"',
        "the server takes {user} only from the account of this name, or with a certificate of this name",
        "correct the user in the URL, or the entry in the server's pg_hba.conf",
    ),
    Reason(
        "",
        r'role "(?P<user>[^"]*)" does not exist|no such user: (?P<other>\S+)',
        "there is no user {user}{other}",
        "correct the user in the URL, or make the role: `preforkd fleet init --role NAME`",
    ),
    Reason(
        "",
        r'role "(?P<user>[^"]*)" is not permitted to log in',
        "the role {user} may not log in",
        'ALTER ROLE "{user}" LOGIN',
    ),
    Reason(
        "28000",
        r"pg_hba|authentication failed",
        "",
        "correct the user in the URL, or the entry in the server's pg_hba.conf",
    ),
    Reason(
        "3D000",
        r'database "(?P<name>[^"]*)" does not exist|no such database: (?P<other>\S+)',
        "there is no database {name}{other}",
        "make it (CREATE DATABASE), or correct it in the URL",
    ),
    Reason(
        "",
        r'permission denied for database "?(?P<name>[^" ]*)',
        "the user may not enter database {name}",
        "GRANT CONNECT ON DATABASE {name} to it",
    ),
    # ---- the state of the server
    Reason(
        "53300",
        r"too many (?:clients|connections)|remaining connection slots|no more connections allowed",
        "the server takes no more connections",
        "raise max_connections (or the limit of the role, database or pooler); each pool of each host needs one",
    ),
    Reason(
        "57P03",
        r"database system is (?:starting up|shutting down|in recovery|not yet accepting)|not yet accepting connections",
        "the server is starting, stopping or recovering",
        "wait; its log says what it does",
    ),
    Reason(
        "57P01 57P02",
        r"terminating connection due to|server closed the connection|Connection reset|SSL SYSCALL error|EOF detected|"
        r"Broken pipe",
        "the server has ended the connection",
        "see its log, and that of a pooler or firewall between",
    ),
    Reason(
        "25006",
        r"session is read-only|server is in hot standby|read-only transaction|session is not read-write",
        "the server is a standby, or read-only",
        "name the primary in the URL, or all hosts of the cluster (@one,two/): the fleet writes to its store",
    ),
    Reason(
        "53100",
        r"No space left on device",
        "the server's disk is full",
        "free some space there",
    ),
    Reason("53200", r"out of memory", "the server has no memory left", "see its log"),
    # ---- poolers
    Reason(
        "",
        r"unsupported startup parameter(?:s)?:? ?(?:in options: )?(?P<name>\S*)",
        "the pooler does not take the parameter {name}",
        "remove it from the URL, or add it to ignore_startup_parameters of pgbouncer",
    ),
    Reason(
        "",
        r"server login has been failing|query_wait_timeout|client_login_timeout|pgbouncer cannot connect",
        "the pooler has no connection to PostgreSQL",
        "see the pooler's log; its pool may be too small (one connection for each pool of each host)",
    ),
    Reason(
        "",
        r"not allowed in statement pooling mode",
        "the pooler is in statement mode",
        "set pool_mode = transaction there, or connect to PostgreSQL itself",
    ),
    Reason(
        "26000",
        r'prepared statement "[^"]*" does not exist|prepared statement "[^"]*" already exists',
        "",
        "the pooler gives statements to other connections: this is a fault of preforkd",
    ),
    # ---- what is in the database
    Reason(
        "3F000",
        r'schema "preforkd" does not exist',
        "the database has no schema preforkd",
        "`preforkd fleet init` makes it; or correct the database in the URL",
    ),
    Reason(
        "42883",
        r"function (?P<name>[\w.]+)\(.*\) does not exist",
        "the schema in the database is older than this preforkd, which calls {name}",
        "`preforkd fleet upgrade`",
    ),
    Reason(
        "",
        r"permission denied for function forget_\d+",
        "only the owner of the schema may declare a host lost",
        "use a URL of the owner (--url-file)",
    ),
    Reason(
        "",
        r"permission denied for (?P<what>schema|table|function|sequence|relation) (?P<name>\S+)",
        "the user has no right to the {what} {name}",
        "`preforkd fleet init --role USER` gives the role of the daemons its rights",
    ),
    Reason("42501", r"must be owner|permission denied", "", "use a URL of the owner of the database (--url-file)"),
    Reason("57014", r"statement timeout|canceling statement", "", "the server is slow, or busy; see its log"),
    Reason("55P03", r"lock timeout|could not obtain lock", "", "other calls hold what is needed; it is tried again"),
)

_PATTERNS = tuple((frozenset(row.states.split()), re.compile(row.pattern, re.IGNORECASE), row) for row in _TABLE)


def explained(sqlstate: str, text: str) -> str:
    """The reason in plain words, and what to do: "no server listens there (db:5432): start PostgreSQL, or …".

    `sqlstate`: "" where there is none. `text`: of the server or of libpq; the words of libpq about itself are left out.
    """
    line = " ".join(text.split())
    where, rest = _place(line)
    for states, pattern, row in _PATTERNS:
        match = pattern.search(rest)
        if match or (sqlstate and sqlstate in states):
            return f"{_said(row, match, _plain(rest))}{where}: {_filled(row.advice, match)}"
    return f"{_plain(rest)}{where}"


def _place(line: str) -> tuple[str, str]:
    """The server that a text is about, and the text without it."""
    if match := _WHERE.search(line):
        host = f"[{match['host']}]" if ":" in match["host"] else match["host"]
        return f" ({host}:{match['port']})", line[match.end() :]
    if match := _SOCKET.search(line):
        return f" ({match['path']})", line[match.end() :]
    return "", line


def _plain(text: str) -> str:
    """Without the server's severity and libpq's guesses."""
    return _SEVERITY.sub("", _GUESS.sub("", text))


def _said(row: Reason, match: re.Match[str] | None, text: str) -> str:
    words = _filled(row.said, match)
    return " ".join(words.split()) if words and match else text


def _filled(words: str, match: re.Match[str] | None) -> str:
    groups = {name: value or "" for name, value in (match.groupdict() if match else {}).items()}
    for name, value in groups.items():
        words = words.replace(f"{{{name}}}", value)
    return words
