"""preforkd's side: the same handler. Runs in workers."""

from __future__ import annotations

from benchmarks.chaos.effects import handle
from supervisor import Message


def run(message: Message) -> None:
    """One message."""
    handle(message.id, message.attempt > 1 or message.maybe_duplicate)
