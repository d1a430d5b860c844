"""RabbitMQ 4.0 beside the machine's own server: Debian 13's package in a tree of its own (tests/support/debian.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.tools import cannot

RELEASES = ("rabbitmq", "rabbit_4") if os.environ.get("PREFORKD_SOAK") else ("rabbitmq",)
"""The fixtures of nodes on which a test runs that is about what differs between RabbitMQ 3.10 and 4.0."""


def rabbitmq_4_root() -> Path:
    """The tree with it. Raises debian.Unavailable."""
    return debian.tree("rabbitmq-4.0", "rabbitmq-server")


@pytest.fixture(scope="session")
def rabbit_4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One node of RabbitMQ 4.0 for the whole run, only where PREFORKD_SOAK is set: use unique queue names.

    Its interceptors change every message on its way, as some operators have them do: what comes back is not what was
    sent (https://www.rabbitmq.com/docs/message-interceptors).
    """
    if not os.environ.get("PREFORKD_SOAK"):
        pytest.skip("RabbitMQ 4.0 is built and run only where PREFORKD_SOAK is set")
    try:
        root = rabbitmq_4_root()
    except debian.Unavailable as error:
        cannot(str(error))
    with running_node(tmp_path_factory.mktemp("rabbitmq-4"), _INTERCEPTORS, root=root) as node:
        yield node


@pytest.fixture(params=RELEASES)
def node(request: pytest.FixtureRequest) -> RabbitNode:
    """A node of each release in turn."""
    found: RabbitNode = request.getfixturevalue(request.param)
    return found


_INTERCEPTORS = """
message_interceptors.incoming.set_header_timestamp.overwrite = true
message_interceptors.incoming.set_header_routing_node.overwrite = true
"""
