"""Exit notices of a pool that wait: their workers are dead, orphans of them cannot be ended. No I/O; master only.

The slot of such a worker is left as it is: the next owner would turn its running mark into an outcome, and its message
would run beside the orphan. Another slot, beyond the wanted ones, is filled in its place.
"""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.link.frames import ExitNotice, Incarnation


class DelayedNotices:
    """The exit notices that wait, by slot."""

    def __init__(self) -> None:
        self._exit_notices: dict[int, ExitNotice] = {}
        self._stand_ins: dict[int, int] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._exit_notices))

    def has(self, slot: int, generation: int) -> bool:
        """Whether the exit notice of exactly this worker waits."""
        exit_notice = self._exit_notices.get(slot)
        return exit_notice is not None and exit_notice.worker.generation == generation

    @property
    def workers(self) -> list[Incarnation]:
        """The dead: for the consumer they are alive until their exit notice comes."""
        return [exit_notice.worker for exit_notice in self._exit_notices.values()]

    @property
    def stand_ins(self) -> set[int]:
        """Slots that are filled in the place of those that wait."""
        return set(self._stand_ins.values())

    def keep(self, slot: int, exit_notice: ExitNotice, stand_in: int | None) -> None:
        """Let this exit notice wait. `stand_in`: the slot that is filled instead, None for none."""
        self._exit_notices[slot] = exit_notice
        if stand_in is not None:
            self._stand_ins[slot] = stand_in

    def let_go(self, slot: int) -> ExitNotice:
        """The exit notice that has waited; its slot may be filled again, and its stand-in is wanted no more."""
        self._stand_ins.pop(slot, None)
        return self._exit_notices.pop(slot)
