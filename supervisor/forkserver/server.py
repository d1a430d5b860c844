"""The forkserver's loop: takes orders from the master, forks, answers; shows on the pool's board that it lives.

`run()` is for ever, `turn()` is one pass. It serves orders one by one (a fork takes a few milliseconds) and leaves when
it is told to or when the master's end of the channel is closed. Workers do not depend on it: they live on.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import NoReturn

from supervisor.forkserver.birth import Cradle, NotBorn, give_birth
from supervisor.link.channel import Channel, ChannelClosed
from supervisor.link.frames import Fork, Forked, ForkFailed, ForkOrder, Quit
from supervisor.scoreboard.board import Board

BEAT_S = 1.0
"""How often it shows progress at least; the master takes a forkserver that stays silent for much longer for wedged."""

BeWorker = Callable[[Fork, Cradle], NoReturn]


class Forkserver:
    """Serves one master. `be_worker` is what a forked process becomes."""

    def __init__(self, channel: Channel[ForkOrder], board: Board, be_worker: BeWorker) -> None:
        self._channel = channel
        self._board = board
        self._be_worker = be_worker
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._wanted = True

    def run(self) -> None:
        """Serve until the master says Quit, or is gone."""
        while self._wanted:
            self.turn()

    def turn(self) -> None:
        """One pass: show progress, wait a moment for orders, carry them out."""
        self._board.beat_forkserver()
        try:
            if self._poll.poll(BEAT_S * 1000):
                for order in self._channel.receive():
                    self._obey(order)
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
            pid = give_birth(lambda cradle: self._become(order, cradle))
        except NotBorn as error:
            return ForkFailed(order.slot, order.generation, str(error))
        # fail-point: forkserver.forked: the worker lives, the master is not told
        return Forked(order.slot, order.generation, pid)

    def _become(self, order: Fork, cradle: Cradle) -> NoReturn:
        self._channel.close()  # what the master says is not for us; and it must see the forkserver's end as closed
        self._be_worker(order, cradle)

    def _answer(self, report: Forked | ForkFailed) -> None:
        self._channel.send(report)
        while not self._channel.flush():
            _wait_writable(self._channel)
        # fail-point: forkserver.answered: the master is told of a birth


def _wait_writable(channel: Channel[ForkOrder]) -> None:
    poll = select.poll()
    poll.register(channel, select.POLLOUT)
    poll.poll(BEAT_S * 1000)
