"""The exceptions that `once` raises on purpose; each is an outcome of the run, unless the handler catches it.

Raised in workers. `InboxError` (a wrong use) is beside the state of the run: `supervisor/messages/inbox_run.py`.
"""

from __future__ import annotations

from supervisor.api import Reject, Retry


class InboxBusy(Retry):
    """Another transaction holds the row of this message, or a lock that it needs: the next attempt asks again."""


class InboxPartial(Reject):
    """An earlier attempt was committed in the middle of its block: its effect may be partial, and a person decides."""


class InboxGivenUp(Reject):
    """The message has no attempt left, and none of them has committed. The handler must do nothing either."""
