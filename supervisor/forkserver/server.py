"""The forkserver's loop: receives orders from the master, forks, answers; writes its progress to the pool's board.

`run()` lasts until the exit, `turn()` is one pass. Orders are carried out one by one (a fork takes a few milliseconds).
It exits by order, or when the master's end of the channel is closed. Workers live on; its standby ends with it.
"""

from __future__ import annotations

import logging
import math
import select
from collections.abc import Callable
from select import POLLIN, POLLOUT
from select import poll as new_poll

from supervisor.forkserver.double_fork import DoubleFork, NoWorker, StandbyEnded, Worker
from supervisor.link.channel import Channel, ChannelClosed, NotUnderstood
from supervisor.link.frames import Fork, Forked, ForkFailed, ForkOrder, Quit
from supervisor.scoreboard.board import FORKSERVER, Board
from supervisor.system.clock import monotonic_s

BEAT_S = 1.0
"""The longest time between two beats; the master's hang detector kills a forkserver without one for much longer."""

QUIET_S = 0.02
"""Longer than the few milliseconds of a double fork."""

_ENDED = "a standby ended before it was needed: %s"

_logger = logging.getLogger("preforkd.forkserver")


class Forkserver:
    """Serves one master. `be_worker` runs in a forked process and never returns."""

    def __init__(self, channel: Channel[ForkOrder], board: Board, be_worker: Worker) -> None:
        self._channel = channel
        self._board = board
        self._poll = new_poll()
        self._poll.register(channel, POLLIN)
        # Children close the channel: orders are not for them, and the master must see it closed with the forkserver.
        self._standbys = Standbys(lambda: DoubleFork(be_worker, channel.close), self._poll)
        self._wanted = True

    def run(self) -> None:
        """Serve until the master sends Quit, or is gone. Raises NotUnderstood for an invalid frame."""
        try:
            while self._wanted:
                self.turn()
        finally:
            self._standbys.close()

    def turn(self) -> None:
        """One pass: beat, wait for orders, carry them out, or make a standby. Raises NotUnderstood as `run`."""
        self._board.beat(FORKSERVER)
        try:
            if self._poll.poll(self._standbys.wait_s(BEAT_S) * 1000):
                for order in self._channel.receive():
                    self._obey(order)
                self._channel.confirm()
                self._standbys.follow()
            else:
                self._standbys.replenish()
        except NotUnderstood:
            raise
        except ChannelClosed:
            self._wanted = False

    def _obey(self, order: ForkOrder) -> None:
        match order:
            case Fork():
                self._answer(self._fork(order))
            case Quit():
                self._wanted = False

    def _fork(self, order: Fork) -> Forked | ForkFailed:
        self._board.beat(FORKSERVER)
        try:
            # fail-point: forkserver.ordered: a fork is ordered and not begun
            pid = self._standbys.start_worker(order.slot, order.generation)
        except NoWorker as error:
            return ForkFailed(order.slot, order.generation, str(error))
        # fail-point: forkserver.forked: the worker lives, the master is not told
        return Forked(order.slot, order.generation, pid)

    def _answer(self, report: Forked | ForkFailed) -> None:
        self._channel.send(report)
        while not self._channel.flush():
            _wait_writable(self._channel)
        # fail-point: forkserver.answered: the master is told of the fork


def _wait_writable(channel: Channel[ForkOrder]) -> None:
    poll = new_poll()
    poll.register(channel, POLLOUT)
    poll.poll(BEAT_S * 1000)


class Standbys:
    """Keeps one standby ready, so that the replacement of a dead worker does not wait for two forks.

    It begins with the first order (a pool without workers needs no standby), and makes the next standby only after a
    quiet moment: the new worker needs the processor first, and a burst of orders is served by direct forks. It must
    never retry by itself: a standby that ended early is replaced after the next order.
    `make()` starts a double fork, or raises NoWorker. `poll` reports the standby's end.
    """

    def __init__(self, make: Callable[[], DoubleFork], poll: select.poll) -> None:
        self._make = make
        self._poll = poll
        self._standby: DoubleFork | None = None
        self._due_s = math.inf

    def start_worker(self, slot: int, generation: int) -> int:
        """Give this slot to the standby, or to a new worker; returns the pid. Raises NoWorker."""
        try:
            return self._assign(slot, generation)
        finally:
            self._due_s = monotonic_s() + QUIET_S

    def _assign(self, slot: int, generation: int) -> int:
        self.follow()
        standby = self._release()
        if standby is not None:
            try:
                return standby.assign(slot, generation)
            except StandbyEnded as error:
                _logger.warning(_ENDED, error)
        return self._make().assign(slot, generation)

    def wait_s(self, most_s: float) -> float:
        """Seconds that the forkserver may wait, at most `most_s`."""
        return max(0.0, min(most_s, self._due_s - monotonic_s()))

    def follow(self) -> None:
        """Remove a standby that has ended."""
        if self._standby is not None and self._standby.is_over and (standby := self._release()) is not None:
            _logger.warning(_ENDED, standby.dismiss())

    def replenish(self) -> None:
        """Make the next standby when it is due."""
        if monotonic_s() < self._due_s:
            return
        self._due_s = math.inf
        try:
            self._standby = self._make()
        except NoWorker as error:
            _logger.warning("no standby can be made: %s", error)
            return
        self._poll.register(self._standby, POLLIN)
        # fail-point: forkserver.standby-made: a standby lives, without an order

    def close(self) -> None:
        """End the standby."""
        if (standby := self._release()) is not None:
            standby.dismiss()

    def _release(self) -> DoubleFork | None:
        standby, self._standby = self._standby, None
        if standby is not None:
            self._poll.unregister(standby)
        return standby
