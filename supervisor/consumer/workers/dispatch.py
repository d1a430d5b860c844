"""Which worker gets the next message, and how far ahead of its handler it may read. Pure.

A message sent to a worker waits for all that the worker has before it. So read-ahead goes only as far as recent handler
times say fits into `READ_AHEAD_S`: small handlers stay fast, and a long one never has innocents behind it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

from supervisor.config.schema import PoolConfig
from supervisor.link.frames import Incarnation
from supervisor.scoreboard.layout import CELLS

READ_AHEAD_S = 0.020
HANDFUL_S = 0.001
"""Less work than this is not shared out: it costs more to wake a second worker than to wait for the first."""
_FORGETTING = 0.8
"""A slow run counts at once, and is forgotten over the next few quick ones."""


class Dispatcher:
    """The workers that take messages now, and how quick each has lately been."""

    def __init__(self, pool: PoolConfig) -> None:
        self._recent_s: dict[Incarnation, float | None] = {}
        self.configure(pool)

    def configure(self, pool: PoolConfig) -> None:
        """Share the prefetch window among other numbers of workers from now on."""
        self._share = max(1, min(-(-pool.prefetch // pool.workers), CELLS - 1))

    def __contains__(self, worker: Incarnation) -> bool:
        return worker in self._recent_s

    def join(self, worker: Incarnation) -> None:
        """It said hello: it takes messages."""
        self._recent_s.setdefault(worker, None)

    def leave(self, worker: Incarnation) -> None:
        """It takes no more."""
        self._recent_s.pop(worker, None)

    def ended(self, worker: Incarnation, elapsed_s: float) -> None:
        """A handler call took so long."""
        if worker in self._recent_s:
            recent_s = self._recent_s[worker] or 0.0
            self._recent_s[worker] = max(elapsed_s, _FORGETTING * recent_s)

    def room(self, worker: Incarnation) -> int:
        """How many messages the worker may have at once, the running one included."""
        recent_s = self._recent_s.get(worker)
        if recent_s is None:
            return 1
        return max(1, min(self._share, 1 + int(READ_AHEAD_S / max(recent_s, 1e-6))))

    def places(self, load: Callable[[Incarnation], int]) -> Iterator[Incarnation]:
        """Workers for the next messages, the least loaded first, until none has room. `load`: what each has now."""
        heap = [(load(worker), order, worker) for order, worker in enumerate(self._recent_s)]
        heap = [item for item in heap if item[0] < self.room(item[2])]
        heapq.heapify(heap)
        while heap:
            count, order, worker = heap[0]
            room = self.room(worker)
            handful = min(room - count, self.handful(worker))
            yield from itertools.repeat(worker, handful)
            if count + handful < room:
                heapq.heapreplace(heap, (count + handful, order, worker))
            else:
                heapq.heappop(heap)

    def handful(self, worker: Incarnation) -> int:
        """How many messages are worth waking this worker for, when others might take them."""
        recent_s = self._recent_s.get(worker)
        return 1 if recent_s is None else max(1, int(HANDFUL_S / max(recent_s, 1e-6)))
