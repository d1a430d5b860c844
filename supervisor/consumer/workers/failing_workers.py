"""Finds a worker whose runs fail while those of the other workers succeed: user code has spoilt its process. Pure.

Not every change can be seen from outside: a library may keep a broken connection, a module a wrong setting. But the
runs of such a worker fail in a row while others succeed. If all workers fail, or runs fail here and there, the fault is
in the messages or outside of the workers, and a new process would be no better.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.link.frames import Incarnation
from supervisor.scoreboard.words import OutcomeKind

IN_A_ROW = 5
"""So many runs of one worker must fail in a row, and as many of the other workers succeed meanwhile."""

_FAILURES = frozenset({OutcomeKind.FAILED, OutcomeKind.SOFT_TIMEOUT})
"""Endings that no handler asks for. `Retry` and `Reject` are decisions about a message and count neither way."""


class _Row(NamedTuple):
    failures: int
    done_before: int


class FailingWorkers:
    """One pool's rows of failures."""

    def __init__(self) -> None:
        self._done = 0
        self._rows: dict[Incarnation, _Row] = {}
        self._replaced: set[int] = set()

    def ended(self, worker: Incarnation, kind: OutcomeKind) -> bool:
        """A run has ended; True where its worker is to be replaced.

        A slot whose worker was replaced is not emptied for this again before a run in it has succeeded: where a new
        process fails as well, the process is not at fault.
        """
        if kind is OutcomeKind.DONE:
            self._done += 1
            if self._rows or self._replaced:
                self._succeeded(worker)
            return False
        return kind in _FAILURES and self._failed(worker)

    def forget(self, worker: Incarnation) -> None:
        """The worker is dead."""
        self._rows.pop(worker, None)

    def _succeeded(self, worker: Incarnation) -> None:
        self._replaced.discard(worker.slot)
        if worker in self._rows:  # runs fail now and then in a process that is sound: no worker's row tells anything
            self._rows.clear()

    def _failed(self, worker: Incarnation) -> bool:
        failures, done_before = self._rows.get(worker) or _Row(0, self._done)
        self._rows[worker] = row = _Row(failures + 1, done_before)
        is_spoilt = row.failures >= IN_A_ROW and self._done - done_before >= IN_A_ROW
        if not is_spoilt or worker.slot in self._replaced:
            return False
        self._replaced.add(worker.slot)
        return True
