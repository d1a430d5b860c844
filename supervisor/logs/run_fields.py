"""The run under way as fields of log lines: `pool`, `slot`, `message_id`, `round` and `attempt` on every log record.

Runs in forkservers and workers, the processes with user code. The names are those of preforkd's own lines and exit
records. A worker has one run at a time, so the fields are the process's own: all threads have them. A field that the
caller gives (`extra`) stays. No frame of this file may be on the stack while a log handler writes: the soft limit
raises nothing below one (docs/decisions/0017-log-fields.md).
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any, Protocol

NAMES = ("pool", "slot", "message_id", "round", "attempt")
"""The fields, in the order in which a line has them."""


class RunNumbers(Protocol):
    """Which run of its message a run is."""

    @property
    def round(self) -> int:
        """From 1; the next after a message was put back."""

    @property
    def attempt(self) -> int:
        """From 1; the next after a failed run."""


class Run(Protocol):
    """A run, as the frame that orders it names it."""

    @property
    def id(self) -> str:
        """The id of the message."""

    @property
    def run(self) -> RunNumbers:
        """Which run of the message this is."""


class _RunFields:
    """Of the process, as the logging tree itself is. Empty is "" for texts and None for numbers."""

    def __init__(self) -> None:
        self._place: tuple[str, int | None] = ("", None)
        self._run: Run | None = None
        self._installed: Any = None

    def of_process(self, pool: str, slot: int | None = None) -> None:
        """Name the pool of this process, and its slot if it is a worker."""
        self._place = pool, slot

    def begin(self, run: Run) -> None:
        """A run begins: its fields are on each record until `end`."""
        self._run = run

    def end(self) -> None:
        """The run is over."""
        self._run = None

    def values(self) -> tuple[str, int | None, str, int | None, int | None]:
        """The present values of NAMES."""
        run = self._run
        if run is None:
            return (*self._place, "", None, None)
        return (*self._place, run.id, run.run.round, run.run.attempt)

    def fill(self, record: logging.LogRecord) -> None:
        """Add the fields that the `record` does not have."""
        fields = record.__dict__
        for name, value in zip(NAMES, self.values(), strict=True):
            fields.setdefault(name, value)

    def install(self) -> None:
        """Let all loggers make records with these fields; again if user code has replaced `Logger.makeRecord`.

        A record factory could not do it: `extra` with a name that the factory has set raises KeyError.
        """
        if logging.Logger.makeRecord is not self._installed:
            self._installed = _filling(logging.Logger.makeRecord)
            logging.Logger.makeRecord = self._installed  # type: ignore[method-assign]


run_fields = _RunFields()


def is_missing(value: object) -> bool:
    """Whether a field is empty, and so left out of preforkd's own lines. `value`: of any type, also of user code."""
    return value is None or (isinstance(value, str) and not value)


def _filling(make: Any) -> Any:
    @wraps(make)
    def makeRecord(*given: Any, **named: Any) -> Any:
        record = make(*given, **named)
        if isinstance(record, logging.LogRecord):  # else a factory of user code is at fault
            run_fields.fill(record)
        return record

    return makeRecord
