"""The broker of these tests is RabbitMQ: one node for the whole run, queues of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config.schema import BrokerConfig
from tests.support.brokers import Backend
from tests.support.rabbitmq import RabbitNode


@pytest.fixture
def backend(rabbitmq: RabbitNode, tmp_path: Path) -> Backend:
    return Backend(BrokerConfig(urls=(rabbitmq.url,)), tmp_path)
