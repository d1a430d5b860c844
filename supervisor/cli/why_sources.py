"""Where `preforkd why` has its facts from: the running daemon where there is one, else the files it has left.

Nothing here changes anything, and no consumer is held up: the daemon answers from its memory and by one look-up in the
ledger. What could not be asked is said in `gaps`, so that silence is never taken for an answer.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from pathlib import Path
from typing import Any

from supervisor.cli.invocation import Invocation
from supervisor.consumer.observe.traces import trace_of
from supervisor.consumer.settlement.identification import Arrivals
from supervisor.control.client import NotRunning, OtherRuntimeDir
from supervisor.control.results import Found, FoundInPool, Status, WorkerStatus
from supervisor.errors import ControlError, LedgerError
from supervisor.exit_history import HistoryTail
from supervisor.ledger import peek
from supervisor.link.traces import Trace

Facts = dict[str, Any]


class Sources:
    """The facts of one call. `gaps`: what could not be asked, for people."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self.gaps: list[str] = []

    @cached_property
    def status(self) -> Status | None:
        """The daemon's status object; None when none answers."""
        try:
            with self._invocation.connect() as daemon:
                return daemon.status()
        except OtherRuntimeDir as error:
            self.gaps.append(str(error))
        except NotRunning:
            self.gaps.append("no daemon runs: these facts are from its files")
        except ControlError as error:
            self.gaps.append(f"the daemon could not be asked ({error})")
        return None

    @cached_property
    def queues(self) -> dict[str, str]:
        """The queue of each pool of the daemon, and of the file where that can be read. ConfigError: neither can."""
        return self._invocation.queues(self.status)

    def queue_of(self, pool: str) -> str:
        """The queue of a pool; "?" for one that neither the daemon nor the file has."""
        return self.queues.get(pool, "?")

    def exits(self, count: int, **facts: Any) -> list[Facts]:
        """The last exit records in which these fields have these values, oldest first."""
        with HistoryTail(self._invocation.state_dir) as tail:
            found = (record for record in tail.new() if facts.items() <= record.items())
            return list(deque(found, maxlen=count))

    def workers_with(self, message_id: str) -> list[WorkerStatus]:
        """The workers, as `status` shows them, that run this message now."""
        pools = self.status.pools.values() if self.status else ()
        return [worker for pool in pools for worker in pool.workers if worker.message_id == message_id]

    def traces(self, message_id: str) -> dict[str, list[Trace]]:
        """What each pool knows of the messages with this id."""
        answers = self._asked(message_id) if self.status else self._read(message_id)
        self.gaps += [f"pool {name}: {answer.why}" for name, answer in answers.items() if answer.why]
        return {name: answer.traces for name, answer in answers.items()}

    def _asked(self, message_id: str) -> dict[str, FoundInPool]:
        try:
            with self._invocation.connect() as daemon:
                return daemon.ask_for(Found, "find", message_id=message_id).pools
        except ControlError as error:
            self.gaps.append(f"the daemon could not be asked for the message ({error})")
            return {}

    def _read(self, message_id: str) -> dict[str, FoundInPool]:
        return {name: self._read_ledger(name, message_id) for name in self._invocation.config.pools}

    def _read_ledger(self, name: str, message_id: str) -> FoundInPool:
        config = self._invocation.config
        key = Arrivals(config.pools[name], config.broker).key_of(message_id)
        pool_dir = Path(config.daemon.state_dir) / "pools" / name
        try:
            return FoundInPool(traces=[trace_of(name, row) for row in peek(pool_dir, key)], why="")
        except LedgerError as error:
            return FoundInPool(traces=[], why=str(error))
