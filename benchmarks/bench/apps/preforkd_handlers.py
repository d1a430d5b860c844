"""preforkd's side of benchmarks.bench.apps.work. Runs in workers."""

from __future__ import annotations

from benchmarks.bench.apps import work
from supervisor import Message


def nothing(message: Message) -> None:
    """Part of WORK."""


def sleep_1ms(message: Message) -> None:
    """Part of WORK."""
    work.sleep_1ms()


def sleep_10ms(message: Message) -> None:
    """Part of WORK."""
    work.sleep_10ms()


def spin(message: Message) -> None:
    """Part of WORK."""
    work.spin()
