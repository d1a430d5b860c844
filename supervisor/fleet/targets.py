"""Where an attempt to connect goes: one address of one host each time. Names are looked up again for each round.

Runs in the consumer, which must not wait for a name server. getaddrinfo(3) blocks, so a short-lived thread calls it
(pika does the same for the broker). libpq is given addresses and looks nothing up.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import NamedTuple

Look = Callable[[str, int], Sequence[str]]
"""The addresses of a name and port. Raises OSError. It may block."""


class Target(NamedTuple):
    """One attempt's: `hostaddr` is empty for the folder of a Unix socket."""

    host: str
    hostaddr: str
    port: int


def look_up(host: str, port: int) -> list[str]:
    """What the machine's resolver says, in its order. Raises OSError. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_kind, address in found))


def known_address(host: str) -> str | None:
    """The address of a host that needs no look-up: itself, or "" for the folder of a Unix socket (libpq, `host`)."""
    if host.startswith(("/", "@")):
        return ""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


class Targets:
    """The hosts of an address in their order, again and again. `hosts`: names or addresses, with ports.

    A name that cannot be looked up keeps the addresses that it had.
    """

    def __init__(self, hosts: Sequence[tuple[str, int]], look: Look = look_up) -> None:
        self._hosts = list(hosts)
        self._look = look
        self._addresses = {host: [known] for host in self._hosts if (known := known_address(host[0])) is not None}
        self._names = [host for host in self._hosts if host not in self._addresses]
        self._left: list[Target] = []
        self._looking: _LookUp | None = None
        self.fault = ""
        """Why the last look-up gave nothing; "" where it did."""

    @property
    def round_is_over(self) -> bool:
        """Whether every address was tried since the last look-up."""
        return not self._left

    def begin(self) -> int | None:
        """Look the names up for another round, unless that is under way.

        Returns a descriptor that is readable at the end of it, or None where there is nothing to look up. Raises
        OSError: no descriptors are left.
        """
        if self._names and self._looking is None:
            self._looking = _LookUp(self._look, self._names)
        return None if self._looking is None else self._looking.fileno()

    def ready(self) -> bool:
        """Whether the look-up has ended; its addresses are the next round then."""
        if self._looking is not None:
            found = self._looking.ended()
            if found is None:
                return False
            self._looking.close()
            self._looking = None
            self._addresses.update((host, some) for host, some in found.addresses.items() if some)
            self.fault = "; ".join(found.faults)
        self._begin_round()
        return True

    def give_up(self) -> None:
        """The look-up takes too long: go on with what is known. It ends by itself, and counts for a later round."""
        names = ", ".join(name for name, _port in self._names)
        self.fault = f"the name server does not answer (looking for {names})"
        self._begin_round()

    def next(self) -> Target | None:
        """Where the next attempt goes; None: nowhere in this round any more."""
        return self._left.pop(0) if self._left else None

    def close(self) -> None:
        """Give up a look-up under way."""
        if self._looking is not None:
            self._looking.close()
            self._looking = None

    def _begin_round(self) -> None:
        self._left = [
            Target(name, address, port)
            for name, port in self._hosts
            for address in self._addresses.get((name, port), ())
        ]


class _Found(NamedTuple):
    addresses: dict[tuple[str, int], list[str]]
    faults: list[str]


class _LookUp:
    """One look-up of all names, in a thread that nothing waits for."""

    def __init__(self, look: Look, names: Sequence[tuple[str, int]]) -> None:
        self._found: _Found | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._over = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        threading.Thread(target=self._run, args=(look, list(names)), name="store look-up", daemon=True).start()

    def fileno(self) -> int:
        """Readable at the end."""
        return self._over

    def ended(self) -> _Found | None:
        """What was found; None while it is under way."""
        with self._guard:
            return self._found

    def close(self) -> None:
        """Give the descriptor back; the thread ends when the name server has answered, or not."""
        with self._guard:
            self._closed = True
            os.close(self._over)

    def _run(self, look: Look, names: list[tuple[str, int]]) -> None:
        found = _Found({}, [])
        for name, port in names:
            try:
                found.addresses[name, port] = list(look(name, port))
            except (OSError, UnicodeError) as error:  # a label of a name that is too long is a UnicodeError
                found.faults.append(f"{name} cannot be looked up ({getattr(error, 'strerror', '') or error})")
        with self._guard:
            self._found = found
            if not self._closed:
                os.eventfd_write(self._over, 1)
