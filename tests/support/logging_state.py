"""All of Python's logging as it was: for tests in whose process user code's ways with it are tried."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOGGER = ("level", "propagate", "disabled")
_HANDLER = ("level", "formatter")


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Whatever happens inside, loggers, handlers and switches are the same afterwards; new handlers are closed."""
    root, manager = logging.getLogger(), logging.Logger.manager
    loggers = [root, *(one for one in manager.loggerDict.values() if isinstance(one, logging.Logger))]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    attributes = [(one, _values(one, _LOGGER)) for one in loggers] + [(one, _values(one, _HANDLER)) for one in handlers]
    lists = [(one.filters, list(one.filters)) for one in (*loggers, *handlers)]
    lists += [(logger.handlers, list(logger.handlers)) for logger in loggers]
    switches = manager.disable, logging.raiseExceptions, logging.getLogRecordFactory()
    make_record = logging.Logger.makeRecord
    try:
        yield
    finally:
        added = {handler for logger in _all(root) for handler in logger.handlers} - handlers
        for one, values in attributes:
            for name, value in values.items():
                setattr(one, name, value)
        for now, then in lists:
            now[:] = then
        manager.disable, logging.raiseExceptions = switches[:2]
        logging.setLogRecordFactory(switches[2])
        logging.Logger.makeRecord = make_record  # type: ignore[method-assign]
        for logger in set(_all(root)) - set(loggers):
            logger.handlers.clear()
        for handler in added:
            handler.close()
        manager._clear_cache()  # type: ignore[attr-defined]  # which levels are enabled is kept there


def _all(root: logging.Logger) -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [root, *(one for one in known if isinstance(one, logging.Logger))]


def _values(one: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}
