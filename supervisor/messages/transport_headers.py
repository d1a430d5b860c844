"""Headers that describe a message's transport, not its content: brokers, tracers and clients add or change them.

The list is used by the content digest (`identity.py`), by copies (`consumer/settlement/copies.py`) and, through the
digest, by content matches. A publisher that sends a message again after an unknown outcome sends other values of
these headers. Pure; a pool's `transport_headers` extends the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

Matcher = Callable[[str], bool]

_REMEMBERED_NAMES = 4096


class TransportHeader(NamedTuple):
    """`name`: in lower case it matches any case; a final `*` matches all names with that prefix.

    `carried`: whether copies keep it; not if the broker adds it again, or acts on it. `since`: the first rule of the
    content digest (`identity.py`) that excludes it.
    """

    name: str
    source: str
    carried: bool = True
    since: int = 2


_RABBITMQ = (
    TransportHeader("x-death", "RabbitMQ, dead lettering", carried=False, since=1),
    TransportHeader("x-first-death-*", "RabbitMQ, dead lettering", carried=False, since=1),
    TransportHeader("x-last-death-*", "RabbitMQ 4, dead lettering", carried=False, since=1),
    TransportHeader("x-delivery-count", "RabbitMQ, quorum queues: deliveries before this one", carried=False, since=1),
    TransportHeader("x-acquired-count", "RabbitMQ 4, quorum queues", carried=False, since=1),
    TransportHeader("CC", "RabbitMQ, sender-selected distribution: it would be routed again", carried=False, since=1),
    TransportHeader("BCC", "RabbitMQ, sender-selected distribution: it would be routed again", carried=False, since=1),
    TransportHeader("x-received-from", "RabbitMQ, federation", since=1),
    TransportHeader("x-shovelled", "RabbitMQ, shovels, which are a way back into a queue", since=1),
    TransportHeader("x-shovelled-timestamp", "RabbitMQ, shovels", since=1),
    TransportHeader("x-opt-shovel*", "RabbitMQ 4, shovels"),
    TransportHeader("x-routed-by", "RabbitMQ, message interceptor set_header_routing_node"),
    TransportHeader("timestamp_in_ms", "RabbitMQ, interceptor set_header_timestamp; rabbitmq-message-timestamp"),
    TransportHeader("x-opt-rabbitmq-received-time", "RabbitMQ 4, message interceptor for time stamps"),
    TransportHeader("x-opt-deaths", "RabbitMQ 4, dead lettering as AMQP 1.0 has it"),
    TransportHeader("x-stream-offset", "RabbitMQ, streams"),
    TransportHeader("x-mqtt-dup", "RabbitMQ up to 3.11, MQTT: set by a publisher's retry"),
)

_TRACERS = (
    TransportHeader("traceparent", "W3C Trace Context"),
    TransportHeader("tracestate", "W3C Trace Context"),
    TransportHeader("baggage", "W3C Baggage"),
    TransportHeader("correlation-context", "W3C Correlation Context, the former name of Baggage; Azure"),
    TransportHeader("b3", "Zipkin, B3 in one header"),
    TransportHeader("x-b3-*", "Zipkin, B3"),
    TransportHeader("uber-trace-id", "Jaeger"),
    TransportHeader("uberctx-*", "Jaeger, baggage"),
    TransportHeader("jaeger-debug-id", "Jaeger"),
    TransportHeader("jaeger-baggage", "Jaeger"),
    TransportHeader("ot-tracer-*", "OpenTracing, basic tracer"),
    TransportHeader("ot-baggage-*", "OpenTracing, basic tracer"),
    TransportHeader("x-ot-span-context", "OpenTracing, Lightstep, Envoy"),
    TransportHeader("sentry-*", "Sentry: sentry-trace, sentry-task-enqueued-time"),
    TransportHeader("x-datadog-*", "Datadog"),
    TransportHeader("dd-pathway-ctx*", "Datadog, data streams"),
    TransportHeader("_datadog", "Datadog"),
    TransportHeader("x-amzn-trace-id", "AWS X-Ray"),
    TransportHeader("x-cloud-trace-context", "Google Cloud Trace"),
    TransportHeader("grpc-trace-bin", "OpenCensus"),
    TransportHeader("newrelic", "New Relic"),
    TransportHeader("elastic-apm-traceparent", "Elastic APM"),
    TransportHeader("x-instana-*", "Instana"),
    TransportHeader("sw8", "Apache SkyWalking"),
    TransportHeader("sw8-*", "Apache SkyWalking"),
    TransportHeader("x-dynatrace*", "Dynatrace"),
    TransportHeader("dtdtraceinfo", "Dynatrace"),
    TransportHeader("dtdtracetaginfo", "Dynatrace"),
    TransportHeader("singularityheader", "AppDynamics"),
    TransportHeader("x-honeycomb-trace", "Honeycomb"),
    TransportHeader("diagnostic-id", "Azure SDKs"),
    TransportHeader("x-request-id", "Envoy, Istio: an id for each try of a request"),
)

_CLIENTS = (
    TransportHeader("spring_listener_return_correlation", "Spring AMQP, publisher returns"),
    TransportHeader("spring_returned_message_correlation", "Spring AMQP, publisher confirms: an id for each try"),
)

HEADERS = (
    TransportHeader("x-preforkd-*", "preforkd, on copies", carried=False, since=1),
    *_RABBITMQ,
    *_TRACERS,
    *_CLIENTS,
)


def matcher(names: Iterable[str]) -> Matcher:
    """A test whether a header is among these `names`, which are spelled as in `TransportHeader.name`."""
    names = frozenset(names)
    exact = frozenset(name for name in names if not name.endswith("*"))
    beginnings = tuple(name[:-1] for name in names if name.endswith("*"))

    @lru_cache(_REMEMBERED_NAMES)  # called for each header of each message, and names recur
    def matches(name: str) -> bool:
        lower = name.lower()
        return name in exact or lower in exact or name.startswith(beginnings) or lower.startswith(beginnings)

    return matches


def transport(more: Iterable[str] = ()) -> Matcher:
    """A test whether a header is transport; `more`: the names of a pool's own ones."""
    return matcher([*(header.name for header in HEADERS), *more])


def transport_before(rule: int) -> Matcher:
    """The same test for a former `rule` of the content digest."""
    return matcher(header.name for header in HEADERS if header.since <= rule)


is_left_behind: Matcher = matcher(header.name for header in HEADERS if not header.carried)
"""Whether copies drop this header."""
