"""Fixtures that every test folder shares; they live in tests/support beside what they hand out."""

from tests.support.pools import make_master
from tests.support.rabbitmq import own_rabbitmq, rabbitmq

__all__ = ["make_master", "own_rabbitmq", "rabbitmq"]
