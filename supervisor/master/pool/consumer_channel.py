"""The channel to the consumer of one pool, with everything that is pending on it or waits to be sent. Master only.

It lives as long as the pool: consumers come and go, and each new one is told what is still owed. Exit notices are owed
until the consumer has said that they are durable, and are repeated until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from supervisor.control.results import PauseStatus
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
from supervisor.master.pool.children import ChildSpec
from supervisor.master.pool.wire import Wire
from supervisor.system.clock import rfc3339, wall_s

EXIT_NOTICE_AGAIN_S = 1.0

Taken = TypeVar("Taken", Letters, Stalled)


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
        self._untaken: dict[type[Letters | Stalled], list[Any]] = {}

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
        # fail-point: master.exit-notice-queued: an exit notice is queued, not sent

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
            case _:
                self._untaken.setdefault(type(report), []).append(report)

    def take(self, kind: type[Taken]) -> list[Taken]:
        """The reports of this kind since the last call: dead letters, or workers that have messages and begin none."""
        return self._untaken.pop(kind, [])


class DelayedNotices:
    """The exit notices that wait, by slot: their workers are dead, orphans of them cannot be ended.

    The slot of such a worker is left as it is: the next owner would turn its running mark into an outcome, and its
    message would run beside the orphan. Another slot, beyond the wanted ones, is filled in its place.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[ExitNotice, int | None]] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._waiting))

    @property
    def workers(self) -> list[Incarnation]:
        """The dead: for the consumer they are alive until their exit notice comes."""
        return [exit_notice.worker for exit_notice, _stand_in in self._waiting.values()]

    @property
    def stand_ins(self) -> set[int]:
        """Slots that are filled in the place of those that wait."""
        return {stand_in for _exit_notice, stand_in in self._waiting.values() if stand_in is not None}

    def delay(self, slot: int, exit_notice: ExitNotice, stand_in: int | None) -> None:
        """Let this exit notice wait. `stand_in`: the slot that is filled instead, None for none."""
        self._waiting[slot] = (exit_notice, stand_in)

    def release(self, slot: int) -> ExitNotice:
        """The exit notice that has waited; its slot may be filled again, and its stand-in is wanted no more."""
        return self._waiting.pop(slot)[0]


class Intake:
    """Whether the consumer takes messages. `paused`: by an operator; None while it is not.

    The consumer of a pool whose workers are all held would keep what it has read ahead, and no other daemon could run
    that: it gives everything back once, and takes messages again when a worker is ready.
    """

    def __init__(self) -> None:
        self.paused: PauseStatus | None = None
        self._idle = False

    @property
    def wanted(self) -> bool:
        """Whether messages are to be taken."""
        return self.paused is None and not self._idle

    def pause(self, by: str) -> None:
        """Take no messages until `resume`. `by`: who asked for it."""
        self.paused = PauseStatus(by=by, since=rfc3339(wall_s()))

    def resume(self) -> None:
        """Take messages again."""
        self.paused = None

    def follow(self, workers: Sequence[ChildSpec], can_work: bool) -> None:
        """Look at the workers. `can_work`: whether a child spec of them is not given up."""
        if any(spec.ready for spec in workers):
            self._idle = False
        elif not can_work and all(spec.child is None for spec in workers):
            self._idle = True
