"""A traced handler: spans go to a file. The SDK is configured in `init`, in each worker."""

from __future__ import annotations

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from supervisor import Message


def configure() -> None:
    """Write spans down, a JSON line each."""
    spans = (Path(os.environ["MARKS"]) / "spans").open("a", buffering=1)
    exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def run(message: Message) -> None:
    """Fail at first, then publish another message."""
    if message.body == b"child":
        return
    if message.attempt == 1:
        raise ValueError("not yet")
    message.publish(b"child", routing_key="email", message_id=f"{message.id}-child")
