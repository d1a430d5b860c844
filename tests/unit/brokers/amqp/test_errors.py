"""pika's errors in words: what is final, what heals, and never a guess that stops a pool for good."""

from __future__ import annotations

import socket
import ssl

import pika.adapters.utils.connection_workflow as workflow
import pika.exceptions
import pytest

from supervisor.brokers.amqp.errors import explain


def _wrapped(error: Exception) -> Exception:
    """As pika hands out what happened while connecting."""
    failed = workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorSocketConnectError(error)])
    wrapped: Exception = pika.exceptions.AMQPConnectionError(failed)
    return wrapped


@pytest.mark.parametrize(
    ("code", "text", "fatal"),
    [
        (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN", True),
        (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'", True),
        (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", False),
        (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'", False),
        (530, "NOT_ALLOWED - vhost nope not found", True),
        (530, "NOT_ALLOWED - access to vhost '/' refused for user 'u': connection limit (0) is reached", False),
        (
            530,
            "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (2)",
            False,
        ),
        (
            530,
            "NOT_ALLOWED - number of channels opened on node 'n' has reached the maximum allowed limit of (9)",
            False,
        ),
        (540, "NOT_IMPLEMENTED - basic.get not supported by stream queues queue 'q' in vhost '/'", True),
        (404, "NOT_FOUND - no queue 'stream of exclusive timeouts' in vhost '/'", False),
        (404, "NOT_FOUND - no exchange 'x' in vhost '/'", True),
        (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1", False),
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", False),
        (541, "INTERNAL_ERROR", False),
    ],
)
def test_the_brokers_words_decide_what_is_final(code: int, text: str, fatal: bool) -> None:
    trouble = explain(pika.exceptions.ConnectionClosedByBroker(code, text))

    assert trouble.fatal is fatal
    assert text in trouble.reason


def test_a_connection_lost_during_the_login_is_no_refusal() -> None:
    lost = pika.exceptions.ProbableAuthenticationError("StreamLostError: ('Transport indicated EOF',)")

    assert not explain(lost).fatal


def test_a_refused_login_is_final_through_pikas_guess() -> None:
    refused = pika.exceptions.ProbableAuthenticationError(
        "ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused'"
    )

    assert explain(refused).fatal


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nothing listens"),
        (socket.gaierror(-2, "Name or service not known"), "cannot be resolved"),
        (ssl.SSLCertVerificationError("self-signed"), "ca_file"),
        (ssl.SSLError("wrong version"), "TLS"),
        (TimeoutError("slow"), "in time"),
        (pika.exceptions.IncompatibleProtocolError("StreamLostError: Transport indicated EOF"), "load balancer"),
    ],
)
def test_the_innermost_error_is_told(error: Exception, words: str) -> None:
    trouble = explain(_wrapped(error))

    assert words in trouble.reason
    assert not trouble.fatal


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert explain(KeyError()).reason == "KeyError"
    assert explain(None).reason
