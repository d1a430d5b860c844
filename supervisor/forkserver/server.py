"""The forkserver's loop: receives orders from the master, forks, answers; writes its progress to the pool's board.

`run()` lasts until the exit, `turn()` is one pass. Orders are carried out one by one (a fork takes a few milliseconds).
It exits by order, or when the master's end of the channel is closed. Workers live on; its standby ends with it.
"""

from __future__ import annotations

from select import POLLIN, POLLOUT
from select import poll as new_poll

from supervisor.forkserver.double_fork import DoubleFork, NoWorker, Worker
from supervisor.forkserver.spare import SparePool
from supervisor.link.channel import Channel, ChannelClosed, NotUnderstood
from supervisor.link.frames import Fork, Forked, ForkFailed, ForkOrder, Quit
from supervisor.scoreboard.board import Board

BEAT_S = 1.0
"""The longest time between two beats; the master's hang detector kills a forkserver without one for much longer."""


class Forkserver:
    """Serves one master. `be_worker` runs in a forked process and never returns."""

    def __init__(self, channel: Channel[ForkOrder], board: Board, be_worker: Worker) -> None:
        self._channel = channel
        self._board = board
        self._poll = new_poll()
        self._poll.register(channel, POLLIN)
        # Children close the channel: orders are not for them, and the master must see it closed with the forkserver.
        self._standbys = SparePool(lambda: DoubleFork(be_worker, channel.close), self._poll)
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
        self._board.beat_forkserver()
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
        self._board.beat_forkserver()
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
