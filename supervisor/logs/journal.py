"""Log lines as entries of systemd's journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

Used in every process whose stderr is the journal, so that priority, event and pool can be asked for by `journalctl`.
It must not stop a process: a journal that stands still is waited for once and briefly, then its lines are lost and
counted by the handler above. What the journal does not take this way goes to stderr as a plain line.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SOCKET = "/run/systemd/journal/socket"
PATIENCE_S = 0.1

_STDERR_FD = 2
_INFO = 6
_PRIORITIES = {"debug": 7, "info": _INFO, "warning": 4, "error": 3, "critical": 2}
_NAME_CHARS = 50
_REPLACED = frozenset({"at", "level", "message"})
"""Of a line, what the journal has fields of its own for."""


def is_journal(stream: str, descriptor: int = _STDERR_FD) -> bool:
    """Whether a descriptor leads to the journal. `stream`: $JOURNAL_STREAM, `device:inode` (systemd.exec(5))."""
    with suppress(OSError):
        found = os.fstat(descriptor)
        return stream == f"{found.st_dev}:{found.st_ino}"
    return False


class JournalTarget:
    """Takes JSON lines, one entry each.

    `address`: of journald's socket; `fallback`: writes a line that no datagram can carry. Default: to stderr.
    """

    def __init__(self, address: str = SOCKET, fallback: Callable[[str], None] | None = None) -> None:
        self._address = address
        self._fallback = fallback or _write_to_stderr
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)

    def is_terminal(self) -> bool:
        """No: lines are to come as JSON."""
        return False

    def write(self, line: str) -> None:
        """Hand over one line. Raises OSError when it is lost."""
        data = entry(json.loads(line))
        try:
            self._socket.connect(
                self._address
            )  # every time: journald may be new; connected, so that it can be waited for
            self._socket.send(data)
        except (TimeoutError, BlockingIOError):
            self._socket.settimeout(0.0)  # no patience until something is taken again
            raise
        except OSError:  # too long for a datagram, or no journald there just now
            self._fallback(line)
        else:
            self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _write_to_stderr(line: str) -> None:
    os.write(_STDERR_FD, line.encode(errors="backslashreplace") + b"\n")


def entry(line: dict[str, Any]) -> bytes:
    """A log line as the datagram that journald reads. Texts of several lines (stacks) follow the message, too."""
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
