"""Requests to the daemon that a live view does not wait for: answers come as callbacks of its loop.

Each request has a connection of its own, so that a reload under way keeps nothing else from being asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor.control.client import ControlClient
from supervisor.control.protocol import Facts
from supervisor.errors import ControlError
from supervisor.system.reactor import Reactor

CONNECT_S = 2.0
"""A daemon that takes no connection for this long (stopped, and its backlog full) is told as one that is silent."""

_REST_S = 2.0  # an answer that has begun to arrive is there within this

Heard = Callable[[Facts], object]
Refused = Callable[[ControlError], object]


class AsyncClient:
    """Asks, and hears what is answered."""

    def __init__(self, runtime_dir: Path, reactor: Reactor) -> None:
        self._runtime_dir = runtime_dir
        self._reactor = reactor
        self._open: list[ControlClient] = []

    @property
    def waiting(self) -> int:
        """How many requests wait for an answer."""
        return len(self._open)

    def ask(self, verb: str, arguments: Mapping[str, Any], heard: Sequence[Heard], refused: Refused) -> None:
        """Ask the daemon. `heard`: called with one answer each; `refused`: instead, with the reason."""
        try:
            client = ControlClient(self._runtime_dir, CONNECT_S)
        except ControlError as error:
            refused(error)
            return
        self._open.append(client)
        left = list(heard)
        self._reactor.add_handler(client, lambda fd, events: self._hear(client, left, refused), self._reactor.READ)
        try:
            client.send(verb, **arguments)
        except ControlError as error:
            self._hang_up(client)
            refused(error)

    def close(self) -> None:
        """Wait for nothing any more."""
        for client in list(self._open):
            self._hang_up(client)

    def _hear(self, client: ControlClient, left: list[Heard], refused: Refused) -> None:
        try:
            answer = client.next_answer(_REST_S)
        except ControlError as error:
            self._hang_up(client)
            refused(error)
            return
        then = left.pop(0)
        if not left:
            self._hang_up(client)
        elif client.heard:
            self._reactor.add_callback(lambda: self._hear(client, left, refused))
        then(answer)

    def _hang_up(self, client: ControlClient) -> None:
        self._open.remove(client)
        self._reactor.remove_handler(client)
        client.close()
