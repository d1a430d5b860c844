"""Keeps preforkd's own log lines alive in processes that run user code, whatever that does to Python's `logging`.

Runs in forkservers and workers: after the import, after `init`, between runs. User code may configure the root logger
for itself: its own lines then go where it says, ours stay in the log. What is undone: loggers of ours disabled (as
`logging.config.dictConfig` does to all there are) or at another level, `logging.disable`, and a record factory that
makes no records.
"""

from __future__ import annotations

import logging

from supervisor.logs.structured import OWN, own_handlers
from supervisor.logs.target import LineHandler


class LogGuard:
    """Made once our handler is configured, before user code runs; `level`: as in [log]."""

    def __init__(self, level: str) -> None:
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._handlers = [(handler, handler.formatter) for handler in own_handlers()]
        self._root, self._ours = logging.getLogger(), logging.getLogger(OWN)
        known = logging.Logger.manager.loggerDict
        self._loggers = [
            logger for name, logger in known.items() if _is_ours(name) and isinstance(logger, logging.Logger)
        ]
        self._factory = logging.getLogRecordFactory()

    def restore(self) -> None:
        """Let our lines reach the log again. Costs no system call; nothing else happens where nothing was changed."""
        if self._ours.level != self._level:
            self._ours.setLevel(self._level)
        if self._root.manager.disable:
            logging.disable(logging.NOTSET)
        for logger in self._loggers:
            logger.disabled = False
        for handler, formatter in self._handlers:
            handler.level, handler.formatter = logging.NOTSET, formatter
            self._attach(handler)
        factory = logging.getLogRecordFactory()
        if factory is not self._factory and not _makes_records(factory):
            logging.setLogRecordFactory(self._factory)

    def _attach(self, handler: LineHandler) -> None:
        if not self._root.handlers:
            self._root.addHandler(handler)
        at_root = handler in self._root.handlers
        if at_root is (handler in self._ours.handlers):
            (self._ours.removeHandler if at_root else self._ours.addHandler)(handler)
        self._ours.propagate = at_root


def _is_ours(name: str) -> bool:
    return name == OWN or name.startswith(f"{OWN}.")


def _makes_records(factory: object) -> bool:
    try:
        made = factory(OWN, logging.INFO, "", 0, "", (), None)  # type: ignore[operator]  # its call is what is tried
    except Exception:  # noqa: BLE001  (user code: whatever it raises, it would raise in our own calls)
        return False
    return isinstance(made, logging.LogRecord)
