"""How handlers are called: as they are, or under a span where there is OpenTelemetry. Used by forkservers and workers.

Without its API nothing is imported and nothing is called that was not called before. With the API alone, context is
passed on from a message to what its handler publishes; spans are made once the handler's code has configured an SDK.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec

from supervisor import api
from supervisor.api import Message
from supervisor.worker.handlers import Ending, Handler, run_handler

Runner = Callable[[Handler, Message], Ending]

_TRACING = "supervisor.worker.tracing"


def prepare() -> None:
    """Load in the forkserver what its workers will need, so that they share it."""
    if find_spec("opentelemetry") is None:
        return
    try:
        importlib.import_module(_TRACING)
    except Exception as error:  # noqa: BLE001  (a library that fails, or one that user code has patched)
        text = "opentelemetry cannot be used, messages are not traced: %r; install preforkd[otel], or remove it"
        logging.getLogger("preforkd.tracing").warning(text, error)


def runner(worker: str) -> Runner:
    """What a worker calls handlers with, once its `init` has configured whatever it wants. `worker`: `email/0`."""
    tracing = sys.modules.get(_TRACING)
    if tracing is None:
        return run_handler
    api._context.inject = tracing.inject
    if not tracing.is_configured():
        return run_handler
    run: Runner = tracing.Tracing(worker).run
    return run
