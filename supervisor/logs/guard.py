"""Keeps preforkd's own log lines working in processes whose user code changes Python's `logging`.

Runs in forkservers and workers: after the import, after `init`, between runs. User code may configure the root logger
for its own lines; lines of preforkd stay in the log. Restored are: preforkd's loggers, if disabled (as
`logging.config.dictConfig` does to all loggers) or at another level, `logging.disable`, and a record factory that makes
no records.
"""

from __future__ import annotations

import logging

from supervisor.logs.structured import OWN, own_handlers
from supervisor.logs.target import LineHandler


class LogGuard:
    """Made after the log is configured, before user code runs; `level`: as in [log]."""

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
        """Restore the loggers of preforkd, if user code has changed them. Costs no system call."""
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
        made = factory(OWN, logging.INFO, "", 0, "", (), None)  # type: ignore[operator]  # the call is the test
    except Exception:  # noqa: BLE001  (user code: it would raise in preforkd's own calls, too)
        return False
    return isinstance(made, logging.LogRecord)
