"""Calls handlers plainly, or under a span if OpenTelemetry is installed. Used by forkservers and workers.

Without opentelemetry-api nothing is imported and no call is added. With the API alone, context is passed from a message
to the publications of its handler; spans are made once user code has configured an SDK.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec

from supervisor import api
from supervisor.api import Message
from supervisor.worker.handler_call import Ending, Handler, run_handler

Runner = Callable[[Handler, Message], Ending]

_TRACING = "supervisor.worker.tracing"


def prepare() -> None:
    """Import tracing in the forkserver, so that its workers share the pages."""
    if find_spec("opentelemetry") is None:
        return
    try:
        importlib.import_module(_TRACING)
    except Exception as error:  # noqa: BLE001  (a library that fails, or one that user code has patched)
        text = "opentelemetry cannot be used, messages are not traced: %r; install preforkd[otel], or remove it"
        logging.getLogger("preforkd.tracing").warning(text, error)


def runner(worker: str) -> Runner:
    """The function with which a worker calls handlers, chosen after its `init`. `worker`: `email/0`."""
    tracing = sys.modules.get(_TRACING)
    if tracing is None:
        return run_handler
    api._context.inject = tracing.inject
    if not tracing.is_configured():
        return run_handler
    run: Runner = tracing.Tracing(worker).run
    return run
