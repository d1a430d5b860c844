"""The forkserver's loop: takes orders from the master, forks, answers; shows on the pool's board that it lives.

`run()` is for ever, `turn()` is one pass. It serves orders one by one (a fork takes a few milliseconds) and leaves when
it is told to or when the master's end of the channel is closed. Workers do not depend on it: they live on. Its standby
does, and ends with it.
"""

from __future__ import annotations

from select import POLLIN, POLLOUT
from select import poll as new_poll

from supervisor.forkserver.double_fork import DoubleFork, NotBorn, Worker
from supervisor.forkserver.spare import SparePool
from supervisor.link.channel import Channel, ChannelClosed, NotUnderstood
from supervisor.link.frames import Fork, Forked, ForkFailed, ForkOrder, Quit
from supervisor.scoreboard.board import Board

BEAT_S = 1.0
"""How often it shows progress at least; the master takes a forkserver that stays silent for much longer for wedged."""


class Forkserver:
    """Serves one master. `be_worker` is what a forked process becomes."""

    def __init__(self, channel: Channel[ForkOrder], board: Board, be_worker: Worker) -> None:
        self._channel = channel
        self._board = board
        self._poll = new_poll()
        self._poll.register(channel, POLLIN)
        # What the master says is not for the children; and it must see the forkserver's end of the channel as closed.
        self._reserve = SparePool(lambda: DoubleFork(be_worker, channel.close), self._poll)
        self._wanted = True

    def run(self) -> None:
        """Serve until the master says Quit, or is gone. Raises NotUnderstood where it has said what is no order."""
        try:
            while self._wanted:
                self.turn()
        finally:
            self._reserve.close()

    def turn(self) -> None:
        """One pass: show progress, wait a moment for orders, carry them out; when there are none, look ahead."""
        self._board.beat_forkserver()
        try:
            if self._poll.poll(self._reserve.patience_s(BEAT_S) * 1000):
                for order in self._channel.receive():
                    self._obey(order)
                self._channel.confirm()
                self._reserve.follow()
            else:
                self._reserve.replenish()
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
            pid = self._reserve.bring_up(order.slot, order.generation)
        except NotBorn as error:
            return ForkFailed(order.slot, order.generation, str(error))
        # fail-point: forkserver.forked: the worker lives, the master is not told
        return Forked(order.slot, order.generation, pid)

    def _answer(self, report: Forked | ForkFailed) -> None:
        self._channel.send(report)
        while not self._channel.flush():
            _wait_writable(self._channel)
        # fail-point: forkserver.answered: the master is told of a birth


def _wait_writable(channel: Channel[ForkOrder]) -> None:
    poll = new_poll()
    poll.register(channel, POLLOUT)
    poll.poll(BEAT_S * 1000)
