"""Spans around runs, with the real SDK and an exporter in memory; and context that goes on with publications."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from supervisor import Message, Reject, Retry, SoftTimeout, api
from supervisor.messages.message import Properties
from supervisor.scoreboard.words import OutcomeKind
from supervisor.worker import handler_call, tracing
from supervisor.worker.handler_call import DONE, run_handler
from supervisor.worker.middleware import Chain, EventLoop, Stage
from supervisor.worker.tracing import Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INCOMING = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing("email/0", provider)


@pytest.fixture
def injecting() -> Iterator[None]:
    api._context.inject = tracing.inject
    yield
    api._context.inject = None


def message(headers: dict[str, object] | None = None) -> Message:
    properties = Properties(headers=headers, correlation_id="c-1")
    return Message(b"body", id="m-1", properties=properties, queue="email", routing_key="mail", attempt=2)


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


# ---- spans --------------------------------------------------------------------------------------------------------


def test_a_run_is_a_consumer_span_below_the_publishers(traced: Tracing, exporter: InMemorySpanExporter) -> None:
    assert traced.run(lambda message: None, message(INCOMING)) is DONE
    span = only(exporter)
    assert (span.name, span.kind, span.status.status_code) == ("process email", SpanKind.CONSUMER, StatusCode.UNSET)
    assert span.parent is not None and span.context is not None
    assert trace.format_span_id(span.parent.span_id) == PARENT
    assert trace.format_trace_id(span.context.trace_id) == TRACE
    assert span.context.trace_state.get("vendor") == "x"


def test_a_span_has_the_attributes_of_the_conventions(traced: Tracing, exporter: InMemorySpanExporter) -> None:
    traced.run(lambda message: None, message())
    attributes = dict(only(exporter).attributes or {})
    assert attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "email",
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "c-1",
        "messaging.message.body.size": 4,
        "messaging.rabbitmq.destination.routing_key": "mail",
        "preforkd.worker": "email/0",
        "preforkd.round": 1,
        "preforkd.attempt": 2,
        "preforkd.outcome": "done",
    }


@pytest.mark.parametrize(
    ("error", "kind", "named"),
    [
        (ValueError("no such user"), OutcomeKind.FAILED, "ValueError"),
        (Retry(1.0, "later"), OutcomeKind.RETRY, "supervisor.Retry"),
        (Reject("never"), OutcomeKind.REJECT, "supervisor.Reject"),
        (SoftTimeout(), OutcomeKind.SOFT_TIMEOUT, "supervisor.SoftTimeout"),
    ],
)
def test_what_a_handler_raises_is_on_its_span_and_its_ending_is_the_same(
    traced: Tracing, exporter: InMemorySpanExporter, error: Exception, kind: OutcomeKind, named: str
) -> None:
    def handler(message: Message) -> None:
        raise error

    ending = traced.run(handler, message())
    assert ending.kind is kind
    assert ending._replace(stack="") == run_handler(handler, message())._replace(stack="")
    assert "supervisor/worker/tracing.py" not in ending.stack, "the stack begins at the handler"
    span = only(exporter)
    assert span.status.status_code is StatusCode.ERROR
    (event,) = span.events
    attributes = dict(event.attributes or {})
    assert (event.name, attributes["exception.type"]) == ("exception", named)
    assert attributes["exception.stacktrace"] == ending.stack


def test_middleware_runs_within_the_span_and_its_error_is_of_the_class_that_it_raised(
    traced: Tracing, exporter: InMemorySpanExporter
) -> None:
    class Locale:
        def before(self, message: Message) -> None:
            trace.get_current_span().set_attribute("locale", "none")
            raise KeyError("language")

    ending = traced.run(Chain(lambda message: None, [Stage("app:Locale", Locale(), EventLoop())]), message())

    span = only(exporter)
    assert ending.reason == "middleware app:Locale.before: KeyError: 'language'"
    assert span.attributes is not None
    assert (span.attributes["locale"], span.attributes["error.type"]) == ("none", "KeyError")


def test_a_handler_that_calls_exit_leaves_its_span_ended(traced: Tracing, exporter: InMemorySpanExporter) -> None:
    def handler(message: Message) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        traced.run(handler, message())
    assert only(exporter).status.description == "the handler called exit"
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_span_is_current_while_the_handler_runs_and_no_longer(
    traced: Tracing, exporter: InMemorySpanExporter
) -> None:
    seen: list[str] = []
    traced.run(lambda message: seen.append(trace.get_current_span().name), message())  # type: ignore[attr-defined]
    assert seen == ["process email"]
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("value", [7, None, "", "nonsense", b"\xff", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", ["x"]])
def test_context_that_is_none_begins_a_trace(traced: Tracing, exporter: InMemorySpanExporter, value: object) -> None:
    traced.run(lambda message: None, message({"traceparent": value}))
    assert only(exporter).parent is None


def test_context_that_came_as_bytes_is_read(traced: Tracing, exporter: InMemorySpanExporter) -> None:
    traced.run(lambda message: None, message({"traceparent": INCOMING["traceparent"].encode()}))
    assert only(exporter).parent is not None


class _Broken(SpanProcessor):
    """An SDK's part that fails."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("no disk")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("no network")


def test_an_sdk_that_fails_costs_no_message(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider()
    provider.add_span_processor(_Broken())
    broken, handled = Tracing("email/0", provider), list[str]()
    for _ in range(3):
        assert broken.run(lambda message: handled.append(message.id), message()) is DONE
    assert handled == ["m-1"] * 3, "each once"
    assert caplog.text.count("tracing failed") == 1


# ---- context that goes on -----------------------------------------------------------------------------------------


def test_what_is_published_carries_the_runs_context(
    traced: Tracing, exporter: InMemorySpanExporter, injecting: None
) -> None:
    run = message(INCOMING)
    traced.run(lambda message: message.publish(b"", routing_key="audit", headers={"n": 1}), run)
    context = only(exporter).context
    headers = run.publications[0].properties.headers
    assert context is not None
    expected = f"00-{TRACE}-{trace.format_span_id(context.span_id)}-01"
    assert headers == {"n": 1, "traceparent": expected, "tracestate": "vendor=x"}


def test_what_a_handler_has_set_itself_stays(traced: Tracing, injecting: None) -> None:
    run, own = message(INCOMING), {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-00"}
    traced.run(lambda message: message.publish(b"", routing_key="audit", headers=own), run)
    assert run.publications[0].properties.headers == own


def test_without_an_sdk_context_is_passed_on_as_it_came(injecting: None) -> None:
    run = message(INCOMING)
    assert run_handler(lambda message: message.publish(b"", routing_key="audit"), run) is DONE
    assert run.publications[0].properties.headers == INCOMING


def test_a_message_without_context_gives_none(injecting: None) -> None:
    run = message()
    run_handler(lambda message: message.publish(b"", routing_key="audit"), run)
    assert run.publications[0].properties.headers is None


# ---- who pays -----------------------------------------------------------------------------------------------------


def test_without_an_sdk_handlers_are_called_as_they_are(injecting: None) -> None:
    assert handler_call.runner("email/0") is run_handler


def test_without_the_extra_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_call, "find_spec", lambda name: None)
    monkeypatch.setattr(handler_call, "sys", type("Sys", (), {"modules": {}}))
    monkeypatch.setattr(handler_call.importlib, "import_module", lambda name: pytest.fail("imported"))
    handler_call.import_tracing()
    assert handler_call.runner("email/0") is run_handler
    assert api._context.inject is None
