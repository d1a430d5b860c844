"""Children that were asked to leave while the daemon goes on (reload, scale); those that do not leave are killed.

Master only. A worker gets SIGTERM and finishes its message, however long its limits allow; a forkserver or consumer is
told to quit. A child that is past its grace and runs no message (stopped, or stuck) is killed.
"""

from __future__ import annotations

import signal

from supervisor.link.frames import Quit
from supervisor.master.pool.children import Child, Children, Kind
from supervisor.master.pool.signalling import send
from supervisor.scoreboard.words import Intent

GRACE_S = 15.0
"""How long a child that runs no message has to leave: farewell and exit callbacks of a worker take 10 s at most."""


class Terminations:
    """The children that were asked to leave."""

    does = "end children that do not leave"

    def __init__(self, children: Children) -> None:
        self._children = children
        self._asked: dict[int, tuple[Child, float]] = {}

    @property
    def due_s(self) -> float:
        """When `turn` is needed next (CLOCK_MONOTONIC)."""
        return min((due_s for _child, due_s in self._asked.values()), default=float("inf"))

    def ask(self, child: Child, requested_by: str, now_s: float, grace_s: float = GRACE_S) -> None:
        """Ask a child to leave, once. `requested_by`: for its exit record; `grace_s`: its time for that, in seconds; a
        second call can only shorten it."""
        if child.pid in self._asked:
            self._asked[child.pid] = (child, min(self._asked[child.pid][1], now_s + grace_s))
        if child.intent is not Intent.NONE:
            return
        child.mark(Intent.STOP, requested_by)
        # fail-point: master.reload-intended: the intent is in the slot, no signal is sent
        if child.kind is Kind.WORKER:
            send(child, signal.SIGTERM, now_s)
        else:
            child.send(Quit())
        self._asked[child.pid] = (child, now_s + grace_s)

    def turn(self, now_s: float) -> None:
        """Kill children past their grace period that run no message; check the others again later."""
        for pid, (child, due_s) in list(self._asked.items()):
            if self._children.get(pid) is not child:
                del self._asked[pid]
                continue
            if now_s < due_s:
                continue
            self._asked[pid] = (child, now_s + GRACE_S)
            if not child.runs:
                child.mark(Intent.STOP_KILL, child.requested_by)
                send(child, signal.SIGKILL, now_s)
