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


class Header(NamedTuple):
    """`name`: in lower case it matches any case; a final `*` matches all names with that prefix.

    `carried`: whether copies keep it; not if the broker adds it again, or acts on it. `since`: the first rule of the
    content digest (`identity.py`) that excludes it.
    """

    name: str
    source: str
    carried: bool = True
    since: int = 2


_RABBITMQ = (
    Header("x-death", "RabbitMQ, dead lettering", carried=False, since=1),
    Header("x-first-death-*", "RabbitMQ, dead lettering", carried=False, since=1),
    Header("x-last-death-*", "RabbitMQ 4, dead lettering", carried=False, since=1),
    Header("x-delivery-count", "RabbitMQ, quorum queues: deliveries before this one", carried=False, since=1),
    Header("x-acquired-count", "RabbitMQ 4, quorum queues", carried=False, since=1),
    Header("CC", "RabbitMQ, sender-selected distribution: it would be routed again", carried=False, since=1),
    Header("BCC", "RabbitMQ, sender-selected distribution: it would be routed again", carried=False, since=1),
    Header("x-received-from", "RabbitMQ, federation", since=1),
    Header("x-shovelled", "RabbitMQ, shovels, which are a way back into a queue", since=1),
    Header("x-shovelled-timestamp", "RabbitMQ, shovels", since=1),
    Header("x-opt-shovel*", "RabbitMQ 4, shovels"),
    Header("x-routed-by", "RabbitMQ, message interceptor set_header_routing_node"),
    Header("timestamp_in_ms", "RabbitMQ, message interceptor set_header_timestamp; rabbitmq-message-timestamp"),
    Header("x-opt-rabbitmq-received-time", "RabbitMQ 4, message interceptor for time stamps"),
    Header("x-opt-deaths", "RabbitMQ 4, dead lettering as AMQP 1.0 has it"),
    Header("x-stream-offset", "RabbitMQ, streams"),
    Header("x-mqtt-dup", "RabbitMQ up to 3.11, MQTT: set by a publisher's retry"),
)

_TRACERS = (
    Header("traceparent", "W3C Trace Context"),
    Header("tracestate", "W3C Trace Context"),
    Header("baggage", "W3C Baggage"),
    Header("correlation-context", "W3C Correlation Context, the former name of Baggage; Azure"),
    Header("b3", "Zipkin, B3 in one header"),
    Header("x-b3-*", "Zipkin, B3"),
    Header("uber-trace-id", "Jaeger"),
    Header("uberctx-*", "Jaeger, baggage"),
    Header("jaeger-debug-id", "Jaeger"),
    Header("jaeger-baggage", "Jaeger"),
    Header("ot-tracer-*", "OpenTracing, basic tracer"),
    Header("ot-baggage-*", "OpenTracing, basic tracer"),
    Header("x-ot-span-context", "OpenTracing, Lightstep, Envoy"),
    Header("sentry-*", "Sentry: sentry-trace, sentry-task-enqueued-time"),
    Header("x-datadog-*", "Datadog"),
    Header("dd-pathway-ctx*", "Datadog, data streams"),
    Header("_datadog", "Datadog"),
    Header("x-amzn-trace-id", "AWS X-Ray"),
    Header("x-cloud-trace-context", "Google Cloud Trace"),
    Header("grpc-trace-bin", "OpenCensus"),
    Header("newrelic", "New Relic"),
    Header("elastic-apm-traceparent", "Elastic APM"),
    Header("x-instana-*", "Instana"),
    Header("sw8", "Apache SkyWalking"),
    Header("sw8-*", "Apache SkyWalking"),
    Header("x-dynatrace*", "Dynatrace"),
    Header("dtdtraceinfo", "Dynatrace"),
    Header("dtdtracetaginfo", "Dynatrace"),
    Header("singularityheader", "AppDynamics"),
    Header("x-honeycomb-trace", "Honeycomb"),
    Header("diagnostic-id", "Azure SDKs"),
    Header("x-request-id", "Envoy, Istio: an id for each try of a request"),
)

_CLIENTS = (
    Header("spring_listener_return_correlation", "Spring AMQP, publisher returns"),
    Header("spring_returned_message_correlation", "Spring AMQP, publisher confirms: an id for each try"),
)

HEADERS = (
    Header("x-preforkd-*", "preforkd, on copies", carried=False, since=1),
    *_RABBITMQ,
    *_TRACERS,
    *_CLIENTS,
)


def matcher(names: Iterable[str]) -> Matcher:
    """A test whether a header is among these `names`, which are spelled as in `Header.name`."""
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
