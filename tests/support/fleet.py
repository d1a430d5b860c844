"""Parts for tests of a fleet on a real PostgreSQL: connections that are driven by hand."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from supervisor.fleet.connection import Connection, Failure
from supervisor.fleet.encoding import Answer, Statement
from supervisor.fleet.targets import Look, Targets, look_up
from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import DescriptorSet

T = TypeVar("T")

_WITHIN_S = 30.0


class Driven:
    """A connection and the loop that a consumer has for it: it waits for the one descriptor alone.

    `hosts`: names or addresses, with ports. `look`: how names are looked up.
    """

    def __init__(self, database: str, hosts: list[tuple[str, int]], look: Look = look_up) -> None:
        self.descriptors = DescriptorSet()
        keywords = {"user": "postgres", "dbname": database}
        self.connection = Connection(keywords, Targets(hosts, look), self.descriptors)
        self.news: list[Answer | Failure] = []
        self._poll = select.poll()
        self._poll.register(self.descriptors.fileno(), select.POLLIN)

    def turn(self) -> None:
        """One turn, which waits for nothing."""
        news = self.connection.turn()
        if news is not None:
            self.news.append(news)
        self.descriptors.wake_at(self.connection.due_s)

    def until(self, holds: Callable[[], T], what: str) -> T:
        """Turn whenever the descriptor says so, until `holds()`; what it returned then."""
        deadline_s = boottime_s() + _WITHIN_S
        while not (value := holds()):
            self.turn()
            if value := holds():
                break
            left_s = deadline_s - boottime_s()
            assert left_s > 0, f"not within {_WITHIN_S:g} s: {what}; {self.connection.failure}"
            self._poll.poll(left_s * 1000)
        return value

    def connected(self) -> Connection:
        """Once there is a connection that takes a statement."""
        self.until(lambda: self.connection.idle, "a connection")
        return self.connection

    def ask(self, statement: Statement) -> Answer | Failure:
        """The answer to one statement."""
        self.connected().send(statement)
        self.until(lambda: self.news, "an answer")
        return self.news.pop()

    def close(self) -> None:
        """Everything is given back."""
        self.connection.close()
        self.descriptors.close()


@contextmanager
def driven(database: str, hosts: list[tuple[str, int]], look: Look = look_up) -> Iterator[Driven]:
    """A driven connection that is closed at the end."""
    made = Driven(database, hosts, look)
    try:
        yield made
    finally:
        made.close()
