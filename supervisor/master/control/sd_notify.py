"""systemd's notification protocol (sd_notify(3)): a datagram of KEY=VALUE lines to $NOTIFY_SOCKET. Master only.

The master never waits for the service manager. No child inherits the socket's address: a handler's program that speaks
the protocol, too, would speak for the daemon.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping
from contextlib import suppress

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """The way to the service manager. `watchdog_s`: how often it expects WATCHDOG=1, in seconds; None for never."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        """`address`: a path, or a name in the abstract namespace with `@` in front."""
        self.watchdog_s = watchdog_s
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, lines: Iterable[str]) -> bool:
        """Send these `lines` (KEY=VALUE) as one datagram; False when it was not taken (full, gone)."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(), self._address)
            return True
        return False


def take_notifier(environment: MutableMapping[str, str]) -> Notifier | None:
    """The notifier that the variables in `environment` ask for, None without them. Removes the variables."""
    address, watchdog_us, watchdog_pid = (environment.pop(name, "") for name in _VARIABLES)
    if not address.startswith(("/", "@")):
        return None
    watched = watchdog_us.isdecimal() and int(watchdog_us) > 0 and watchdog_pid in ("", str(os.getpid()))
    return Notifier(address, int(watchdog_us) / 1e6 if watched else None)
