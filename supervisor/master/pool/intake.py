"""Whether a pool's consumer takes messages: not while an operator has paused it, nor while no worker can run them.

Master only. The consumer of a pool whose workers are all held would keep what it has read ahead, and no other daemon
could run that: it gives everything back once, and takes messages again when a worker is ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.master.pool.children import ChildSpec
from supervisor.system.clock import wall_s


@dataclass(frozen=True)
class Pausing:
    """A pool was paused: by whom, and when (wall clock)."""

    by: str
    at_s: float


class Intake:
    """`paused`: by an operator; None while it is not."""

    def __init__(self) -> None:
        self.paused: Pausing | None = None
        self._idle = False

    @property
    def wanted(self) -> bool:
        """Whether messages are to be taken."""
        return self.paused is None and not self._idle

    def pause(self, by: str) -> None:
        """Take no messages until `resume`. `by`: who asked for it."""
        self.paused = Pausing(by, wall_s())

    def resume(self) -> None:
        """Take messages again."""
        self.paused = None

    def follow(self, workers: Sequence[ChildSpec], can_work: bool) -> None:
        """Look at the workers. `can_work`: whether a child spec of them is not given up."""
        if any(spec.ready for spec in workers):
            self._idle = False
        elif not can_work and all(spec.child is None for spec in workers):
            self._idle = True
