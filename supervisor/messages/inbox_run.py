"""One run's use of an inbox: the state between `supervisor.inbox.once`, `Message.publish` and the worker. Pure.

Runs in workers. `once` tells each step; `publish` asks before it collects, and the worker asks when the handler has
returned. The rule behind both: what is published in a run that uses an inbox is in the row of the inbox, or a crash
after the commit would lose it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto


class InboxError(Exception):
    """The inbox cannot be used like this. The text says what was wrong and what to do; the run is a failed attempt."""


class _Phase(Enum):
    UNUSED = auto()
    ASKING = auto()  # `once` has begun, the database has not answered
    FIRST = auto()  # inside of the block: no earlier attempt of this round has committed
    REPEATED = auto()  # inside of the block: one has
    LEFT = auto()
    FAILED = auto()


_REFUSALS = {
    _Phase.REPEATED: "an earlier attempt of this message has committed, and what it published is sent again: publish "
    "only where `once` gives True",
    _Phase.LEFT: "publish inside of the `once` block: only what is in the row of the inbox survives a crash",
    _Phase.FAILED: "`once` has failed in this run, so nothing can be published in it",
}


class InboxRun:
    """How far `once` is in one run.

    `former`: the identity of the database that an earlier attempt of this round used; b"" if none is known. `given_up`:
    why the message has no attempt left, "" for an ordinary run; such a run only asks whether an earlier attempt has
    committed. `record`: called with the identity of the database, before a row is written.
    """

    def __init__(
        self, former: bytes = b"", given_up: str = "", record: Callable[[bytes], object] = lambda database: None
    ) -> None:
        self.former = former
        self.given_up = given_up
        self._record = record
        self._phase = _Phase.UNUSED
        self._reason = ""
        self._is_open: Callable[[], bool] = lambda: False

    def begin(self, database: bytes) -> None:
        """`once` is about to write its row into the database with this identity.

        Raises InboxError for the second `once` of a run, and for another database than that of an earlier attempt.
        """
        if self._phase is not _Phase.UNUSED:
            raise InboxError("once: this run has used `once` before; use it once in a run, around everything")
        if self.former and self.former != database:
            raise InboxError(
                f"once: an earlier attempt of this message used the inbox {self.former.hex()}, this one is "
                f"{database.hex()}: only the first knows whether the message is done; connect to that database"
            )
        self._record(database)
        self._phase = _Phase.ASKING

    def answered(self, first: bool) -> None:
        """The row was written (`first`), or an earlier attempt of this round has committed it."""
        self._phase = _Phase.FIRST if first else _Phase.REPEATED

    def leave(self, is_open: Callable[[], bool]) -> None:
        """The block was left. `is_open`: whether its transaction has not ended; asked when the handler has returned."""
        self._phase = _Phase.LEFT
        self._is_open = is_open

    def fail(self, reason: str) -> None:
        """`once` has raised, or an exception has left its block."""
        self._phase = _Phase.FAILED
        self._reason = reason

    def publish_refusal(self) -> str:
        """Why nothing may be published now, for the handler; "" if it may."""
        return _REFUSALS.get(self._phase, "")

    def fault(self) -> str:
        """Why a run whose handler has returned is not done; "" if it is.

        Raises what the driver of the database raises.
        """
        if self._phase is _Phase.FAILED:
            return f"the handler went on after `once` had failed ({self._reason}); let the exception leave the handler"
        if self._phase not in (_Phase.UNUSED, _Phase.LEFT):
            return "the handler has returned inside of its `once` block; leave the block, then commit"
        if self._is_open():
            return "the handler has returned, and the transaction of its `once` block is still open; commit it"
        return ""
