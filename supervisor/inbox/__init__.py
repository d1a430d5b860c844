"""The inbox: the handler's own database transaction says that a message is done. Imported by handlers, runs in workers.

`once` writes one row into the user's transaction before its effect, so that the effect happens once, whatever happens
to the worker. No driver, SQLAlchemy or Django is imported here: user code has them, or does not need them.
"""

from __future__ import annotations

from supervisor.inbox.cleaning import clean
from supervisor.inbox.errors import InboxBusy, InboxGivenUp, InboxPartial
from supervisor.inbox.once import once
from supervisor.messages.inbox_run import InboxError

__all__ = ["InboxBusy", "InboxError", "InboxGivenUp", "InboxPartial", "clean", "once"]
