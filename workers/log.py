"""The ready-made handler `workers.log:run`: writes each message to the log. The first thing to point a new pool at.

Runs in workers; `preforkd init` writes it into a new configuration. It has no dependency and no state, and never fails.
"""

from __future__ import annotations

import logging

from supervisor import Message

PREVIEW_BYTES = 80

_logger = logging.getLogger("preforkd.workers.log")


def run(message: Message) -> None:
    """Log a message's id, size, attempt and first bytes."""
    _logger.info(
        "message %s: %d bytes, attempt %d: %s",
        message.id or "(without an id)",
        len(message.body),
        message.attempt,
        preview(message.body),
    )


def preview(body: bytes) -> str:
    """The first bytes of a body on one line, with unprintable characters escaped."""
    shown = body[:PREVIEW_BYTES].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown) + (
        "..." if len(body) > PREVIEW_BYTES else ""
    )
