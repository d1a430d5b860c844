"""The outbox: messages that a program publishes if, and only if, its database transaction commits.

Runs in processes of users. `put` writes a row within the user's transaction, `relay` publishes rows and deletes them.
The adapters for drivers and frameworks, and the codec of rows, are those of the inbox.
"""

from __future__ import annotations

from supervisor.outbox.outbox import Failed, OutboxError, Relayed, put, relay

__all__ = ["Failed", "OutboxError", "Relayed", "put", "relay"]
