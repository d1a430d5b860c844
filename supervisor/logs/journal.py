"""Log lines as entries of systemd's journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

Used in every process whose stderr is the journal, so that `journalctl` can select by priority, event and pool. It must
not stop a process: after one short timeout, lines for a blocked journal are lost, and LineHandler counts them. A line
that no datagram can carry goes to stderr.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from typing import Any

from supervisor.system.posix import identity

_SOCKET = "/run/systemd/journal/socket"
TIMEOUT_S = 0.1

_STDERR_FD = 2
_INFO = 6
_PRIORITIES = {"debug": 7, "info": _INFO, "warning": 4, "error": 3, "critical": 2}
_NAME_CHARS = 50
_REPLACED = frozenset({"at", "level", "message"})
"""Fields of a line that the journal has under its own names."""


def is_journal(stream: str, descriptor: int = _STDERR_FD) -> bool:
    """Whether `descriptor` is the journal. `stream`: $JOURNAL_STREAM, `device:inode` (systemd.exec(5))."""
    found = identity(descriptor)
    return found is not None and stream == f"{found[0]}:{found[1]}"


class JournalTarget:
    """Sends each JSON line as one entry.

    `fallback(line)`: writes a line that no datagram can carry; `address`: of journald's socket.
    """

    def __init__(self, fallback: Callable[[str], None], address: str = _SOCKET) -> None:
        self._fallback = fallback
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT_S)

    def write(self, line: str) -> None:
        """Send one JSON `line`. Raises OSError if it is lost."""
        data = entry(json.loads(line))
        try:
            self._socket.connect(self._address)  # each time, as journald may be new; a connected socket can wait
            self._socket.send(data)
        except (TimeoutError, BlockingIOError):
            self._socket.settimeout(0.0)  # no more waiting until a line is accepted
            raise
        except OSError:  # too long for a datagram, or journald does not run
            self._fallback(line)
        else:
            self._socket.settimeout(TIMEOUT_S)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def entry(line: dict[str, Any]) -> bytes:
    """The fields of a log `line` as a datagram for journald. Texts of several lines (stacks) follow the message."""
    _kind, _, child = str(line["process"]).partition(" ")  # `worker email/0`, `master`
    facts = {name: value for name, value in line.items() if name not in _REPLACED}
    if child:
        facts.setdefault("pool", child.partition("/")[0])
    blocks = [value for value in facts.values() if isinstance(value, str) and "\n" in value]
    fields = {
        "MESSAGE": "\n".join([line["message"], *blocks]),
        "PRIORITY": str(_PRIORITIES.get(line["level"], _INFO)),
        "SYSLOG_IDENTIFIER": "preforkd",
    }
    for name, value in facts.items():
        if value not in ("", None):
            fields[f"PREFORKD_{_field_name(name)}"] = value if isinstance(value, str) else json.dumps(value)
    return b"".join(_field(name, value.encode(errors="backslashreplace")) for name, value in fields.items())


def _field_name(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())[:_NAME_CHARS]


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
