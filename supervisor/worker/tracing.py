"""A span of OpenTelemetry around each run; context is read from the message's headers and written to publications.

Loaded in forkservers and workers if opentelemetry-api is installed. It must not decide about a message: if an SDK
fails, the handler is still called once, and its ending counts. The pool's `init` configures the SDK, the exporter and
the format of context in headers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import getpid
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

import supervisor
from supervisor.api import Message
from supervisor.scoreboard.words import OutcomeKind
from supervisor.worker.handler_call import Ending, Handler, error_type, run_handler

_logger = logging.getLogger("preforkd.tracing")


class _Headers(Getter[Mapping[str, Any]]):
    """Reads a message's headers: texts, which some clients send as bytes; other types are not context."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        """The value of the header `key` in `carrier`, as a propagator requires it."""
        value = carrier.get(key)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        """The names of all headers in `carrier`."""
        return list(carrier)


_headers = _Headers()


def is_configured() -> bool:
    """Whether an SDK is configured, by user code or by OTEL_PYTHON_TRACER_PROVIDER."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def inject(message: Message, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """The headers of a publication with the context of the run; a context set by the handler is kept."""
    carrier: dict[str, Any] = {}
    try:
        there = trace.get_current_span() is not trace.INVALID_SPAN
        propagate.inject(carrier, None if there else propagate.extract(message.headers, getter=_headers))
    except Exception as error:  # noqa: BLE001  (a propagator of the user's: publishing goes on without it)
        _logger.warning("no trace context is passed on: %r", error)
        return headers
    if not carrier or (headers and not carrier.keys().isdisjoint(headers)):
        return headers
    return {**(headers or {}), **carrier}


class Tracing:
    """Runs handlers of one worker under spans. `worker`: `email/0`; `provider`: replaces the global one, for tests."""

    def __init__(self, worker: str, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("preforkd", supervisor.__version__, provider)
        self._worker = worker
        self._pid = getpid()
        self._complained = False

    def run(self, handler: Handler, message: Message) -> Ending:
        """Call `run_handler` within a span that is current while the handler runs."""
        begun = self._begin(message)
        if begun is None:
            return run_handler(handler, message)
        span, token = begun
        ending: Ending | None = None
        try:
            ending = run_handler(handler, message)
            return ending
        finally:
            if getpid() == self._pid:  # else a child forked by the handler: the span is its parent's
                self._end(span, token, ending)

    def _begin(self, message: Message) -> tuple[Span, Any] | None:
        try:
            parent = propagate.extract(message.headers, getter=_headers)
            span = self._tracer.start_span(
                f"process {message.queue}", parent, SpanKind.CONSUMER, _facts(message, self._worker)
            )
            return span, context.attach(trace.set_span_in_context(span, parent))
        except Exception as error:  # noqa: BLE001  (an SDK of the user's: the message is run without it)
            self._complain(error)
            return None

    def _end(self, span: Span, token: Any, ending: Ending | None) -> None:
        try:
            context.detach(token)
            _conclude(span, ending)
            span.end()
        except Exception as error:  # noqa: BLE001  (an SDK of the user's: the run has its ending)
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _logger.warning("tracing failed: %r; messages run without it; this is logged once", error)


def _facts(message: Message, worker: str) -> dict[str, str | int]:
    """Attributes of OpenTelemetry's semantic conventions for messaging, and preforkd's own."""
    facts: dict[str, str | int] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": message.queue,
        "messaging.message.body.size": len(message.body),
        "preforkd.worker": worker,
        "preforkd.round": message.round,
        "preforkd.attempt": message.attempt,
    }
    if message.id:
        facts["messaging.message.id"] = message.id
    if message.properties.correlation_id:
        facts["messaging.message.conversation_id"] = message.properties.correlation_id
    if message.routing_key:
        facts["messaging.rabbitmq.destination.routing_key"] = message.routing_key
    return facts


def _conclude(span: Span, ending: Ending | None) -> None:
    """Add the ending to the span: an exception as an event and an error; a Retry is an error, too."""
    if ending is None:
        span.set_status(StatusCode.ERROR, "the handler called exit")
        return
    span.set_attribute("preforkd.outcome", str(ending.kind))
    if ending.kind is OutcomeKind.DONE:
        return
    kind = _OURS.get(ending.kind) or error_type(ending)
    event = {"exception.type": kind, "exception.message": ending.reason, "exception.stacktrace": ending.stack}
    span.add_event("exception", event)
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR, ending.reason)


_OURS = {
    OutcomeKind.RETRY: "supervisor.Retry",
    OutcomeKind.REJECT: "supervisor.Reject",
    OutcomeKind.SOFT_TIMEOUT: "supervisor.SoftTimeout",
}
