"""A consumer's session in the test process, turned by hand: real broker, real ledger, no workers, no master."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.config.schema import BrokerConfig, LedgerConfig, LogConfig, PoolConfig
from supervisor.consumer.session import Session
from supervisor.ledger.sqlite import SqliteLedger
from supervisor.link.frames import VERSION, StartConsumer
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


class HandTurned:
    """Made idle; `start` connects and subscribes."""

    def __init__(self, directory: Path, pool: PoolConfig, broker: BrokerConfig) -> None:
        (directory / "slots").mkdir()
        self.pool = pool
        self._reactor = Reactor()
        self._ledger = SqliteLedger(directory / "ledger.db", "normal")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "link.sock"))
        self._listener.listen()
        start = StartConsumer(
            VERSION,
            pool,
            broker,
            LedgerConfig(),
            LogConfig(),
            str(directory),
            str(directory),
            str(directory / "link.sock"),
            os.getpid(),
            [],
        )
        self.session = Session(start, self._ledger, self._listener, self._reactor)

    def start(self) -> None:
        """Connect and wait for the subscription."""
        self.session.open(set(), consume=True)
        self.until(lambda: self.session.observer.subscribed, "subscribed")

    def turn(self) -> None:
        """One pass, as the consumer's loop does it."""
        self._reactor.poll(0.02)
        self.session.turn(self.session.begin_turn())

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
        """Turn until the condition holds; an AssertionError that names `what` otherwise."""
        deadline_s = monotonic_s() + timeout_s
        while not condition():
            assert monotonic_s() < deadline_s, f"not within {timeout_s:g} s: {what}; {self.session.snapshot()}"
            self.turn()

    def noted(self, words: str) -> bool:
        """Whether `status` would show a symptom with these words."""
        return any(words in symptom.text for symptom in self.session.snapshot().symptoms)

    def events(self, caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
        """The levels of this event's log lines."""
        lines = [(record, getattr(record, "preforkd_line", ("",))) for record in caplog.records]
        return [record.levelname.lower() for record, line in lines if line[0] == event]

    def close(self) -> None:
        """End everything."""
        self.session.close(5.0)
        self._ledger.close()
        self._reactor.close()
        self._listener.close()
