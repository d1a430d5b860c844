"""Verdicts of a pool that wait: their workers are dead, and orphans of them cannot be ended. Bookkeeping, master only.

The slot of such a worker is left as it is: the next owner would turn its running mark into an outcome, and its message
would run beside the orphan. Another slot, beyond the wanted ones, is filled in its place.
"""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.link.frames import Incarnation, Verdict


class Kept:
    """The verdicts that wait, by slot."""

    def __init__(self) -> None:
        self._verdicts: dict[int, Verdict] = {}
        self._stand_ins: dict[int, int] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._verdicts))

    def has(self, slot: int, generation: int) -> bool:
        """Whether the verdict on this very worker waits."""
        verdict = self._verdicts.get(slot)
        return verdict is not None and verdict.worker.generation == generation

    @property
    def workers(self) -> list[Incarnation]:
        """The dead: for the consumer they are alive until their verdict comes."""
        return [verdict.worker for verdict in self._verdicts.values()]

    @property
    def stand_ins(self) -> set[int]:
        """Slots that are filled in the place of those that wait."""
        return set(self._stand_ins.values())

    def keep(self, slot: int, verdict: Verdict, stand_in: int | None) -> None:
        """Let this verdict wait. `stand_in`: the slot that is filled instead, None for none."""
        self._verdicts[slot] = verdict
        if stand_in is not None:
            self._stand_ins[slot] = stand_in

    def let_go(self, slot: int) -> Verdict:
        """The verdict that has waited; its slot may be filled again, and its stand-in is wanted no more."""
        self._stand_ins.pop(slot, None)
        return self._verdicts.pop(slot)
