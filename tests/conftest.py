"""Fixtures that every test folder shares; they live in tests/support beside what they hand out."""

from tests.support.rabbitmq import own_rabbitmq, rabbitmq

__all__ = ["own_rabbitmq", "rabbitmq"]
