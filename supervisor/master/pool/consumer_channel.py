"""The channel to the consumer of one pool, with everything that is pending on it. Master only.

It lives as long as the pool: consumers come and go, and each new one is told what is still owed. Exit notices are owed
until the consumer has said that they are durable, and are repeated until then.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.link.frames import (
    Drained,
    ExitNotice,
    Found,
    Frame,
    Incarnation,
    Letters,
    Pause,
    Resume,
    Snapshot,
    Stalled,
)
from supervisor.master.pool.wire import Wire

EXIT_NOTICE_AGAIN_S = 1.0


class ConsumerChannel:
    """`due_s`: when `repeat_exit_notices` is needed next (CLOCK_MONOTONIC).

    `queue`: what the last consumer was started for; `takes`: whether it was last told to take messages. `snapshot`: the
    consumer's last report, None before its first; `drained`: its last word in a drain.
    """

    def __init__(self) -> None:
        self.due_s = float("inf")
        self.snapshot: Snapshot | None = None
        self.drained: Drained | None = None
        self.queue, self.takes = "", True
        self._wire: Wire | None = None
        self._exit_notices: dict[Incarnation, ExitNotice] = {}
        self._inquiries: dict[int, Callable[[Found], None]] = {}
        self._last_inquiry = 0
        self._dead_letters: list[Letters] = []
        self._stalled: list[Stalled] = []

    def open(self, wire: Wire, queue: str = "", takes: bool = True) -> None:
        """A consumer was started. `queue`: what it consumes from; `takes`: whether it is to take messages."""
        self._wire, self.queue, self.takes = wire, queue, takes
        self.snapshot = self.drained = None
        wire.send(*self._exit_notices.values())

    def close(self) -> None:
        """The consumer is dead. What it said of a drain holds until the next one starts."""
        self._wire = self.snapshot = None

    def send(self, *frames: Frame) -> None:
        """Queue frames; nothing happens while there is no consumer."""
        if self._wire is not None:
            self._wire.send(*frames)

    def take_messages(self, takes: bool) -> None:
        """Tell the consumer to take messages, or none, if it was told otherwise before."""
        if takes != self.takes:
            self.takes = takes
            self.send(Resume() if takes else Pause())

    def flush(self) -> None:
        """Write what the consumer takes now."""
        if self._wire is not None:
            self._wire.flush()

    # ---- exit notices ---------------------------------------------------------------------------------------------

    @property
    def owes_exit_notices(self) -> bool:
        """Whether there are exit notices that the consumer has not confirmed."""
        return bool(self._exit_notices)

    def owe(self, exit_notice: ExitNotice) -> None:
        """Send an exit notice, and again until it is confirmed."""
        self._exit_notices[exit_notice.worker] = exit_notice
        self.send(exit_notice)

    def exit_notice_taken(self, worker: Incarnation) -> bool:
        """The consumer has made this worker's exit notice durable; False if it was not owed any more."""
        return self._exit_notices.pop(worker, None) is not None

    def drop_exit_notices(self) -> None:
        """No consumer has been started yet: its first frame names the living, all others are dead for it."""
        self._exit_notices.clear()

    def repeat_exit_notices(self, now_s: float) -> None:
        """Send those again that were not confirmed in time, unless the consumer has yet to read what it was sent."""
        if not self._exit_notices:
            self.due_s = float("inf")
        elif self.due_s == float("inf"):
            self.due_s = now_s + EXIT_NOTICE_AGAIN_S
        elif now_s >= self.due_s:
            if self._wire is not None and not self._wire.pending_bytes:
                self._wire.send(*self._exit_notices.values())
            self.due_s = now_s + EXIT_NOTICE_AGAIN_S

    # ---- inquiries ------------------------------------------------------------------------------------------------

    def inquire(self, hear: Callable[[Found], None], ask: Callable[[int], Frame]) -> int:
        """Send a question: `ask` makes its frame from its number, which is returned; `hear` gets the answer."""
        self._last_inquiry += 1
        self._inquiries[self._last_inquiry] = hear
        self.send(ask(self._last_inquiry))
        return self._last_inquiry

    def cancel_inquiry(self, number: int) -> None:
        """Ignore the answer to this question."""
        self._inquiries.pop(number, None)

    def answered(self, answer: Found) -> None:
        """The consumer has answered a question; ignored if that was cancelled."""
        hear = self._inquiries.pop(answer.number, None)
        if hear is not None:
            hear(answer)

    # ---- reports --------------------------------------------------------------------------------------------------

    def reported(self, report: Snapshot | Drained | Letters | Stalled) -> None:
        """Keep a report of the consumer for the duties that read it."""
        match report:
            case Snapshot():
                self.snapshot = report
            case Drained():
                self.drained = report
            case Letters():
                self._dead_letters.append(report)
            case Stalled():
                self._stalled.append(report)

    def take_dead_letters(self) -> list[Letters]:
        """The dead letters that were reported since the last call."""
        taken, self._dead_letters = self._dead_letters, []
        return taken

    def take_stalled(self) -> list[Stalled]:
        """The workers that have messages and begin none, reported since the last call."""
        taken, self._stalled = self._stalled, []
        return taken
