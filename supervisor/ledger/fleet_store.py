"""One holder's conversation with the store: one call at a time, repeated over lost connections until it is answered.

Runs in the consumer; never waits but in `opened` and `leave`, which are bounded. An outage of the store raises nothing:
calls only take longer. What is raised means that this holder is not the owner of its rows any more.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from enum import Enum, auto

from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.fleet import calls
from supervisor.fleet.address import Address
from supervisor.fleet.calls import Entry, Epoch, Meaning, Peer, Refusal, meaning
from supervisor.fleet.connection import Connection, Failure
from supervisor.fleet.encoding import Answer, Statement
from supervisor.fleet.reasons import explained
from supervisor.fleet.settings import AGREED
from supervisor.fleet.targets import Targets
from supervisor.ledger.fleet_peers import FENCED, Peers
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.quantities import show_seconds
from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import DescriptorSet
from supervisor.system.posix import readable

OPEN_S = 15.0
"""How long an opening may take in all; the master ends a consumer that makes no progress for 30 s."""
LEAVE_S = 1.0
"""How long a closing waits for the store."""
TELL_S = 1.0
"""An outage is told once it has lasted so long: a connection that is replaced at once is none."""
BEATS = 9
"""Beats in a lease."""
_AGAIN_S = (0.1, 2.0)
"""First and longest wait before a call that the store could not carry out is sent again."""


class _Call(Enum):
    RESUME = auto()
    TURN = auto()
    BEAT = auto()
    MAINTAIN = auto()
    PEERS = auto()
    FENCE = auto()
    LOSE = auto()
    LEAVE = auto()


_RENEWING = (_Call.RESUME, _Call.TURN, _Call.BEAT, _Call.LEAVE)
"""Others see by these that the holder lives."""


class Store:
    """The store as one holder sees it. All times: CLOCK_BOOTTIME.

    `application_name`: as PostgreSQL shows it. `lease_s`: beats follow from it. `host_wait_s`: as for `Peers`.
    """

    def __init__(
        self,
        where: Address,
        application_name: str,
        descriptors: DescriptorSet,
        lease_s: float,
        host_wait_s: float = 0.0,
    ) -> None:
        self.shown = where.shown
        keywords = {"application_name": application_name, **where.keywords}
        self._connection = Connection(keywords, Targets(where.hosts), descriptors)
        self._descriptors = descriptors
        self.lease_s = lease_s
        self._beat_s = lease_s / BEATS
        self._me = Epoch(0, 0)
        self._resumed_on = 0  # the number of the connection that we have gone on with
        self._asked: _Call | None = None  # under way
        self._request: tuple[Sequence[Entry], Sequence[Entry]] | None = None  # not answered
        self._keep_s: float | None = None  # what the next upkeep is for
        self._peers = Peers(self._beat_s, host_wait_s)
        self._target: Peer | None = None  # of the fence or the loss under way
        self._looked_s = 0.0
        self._settings = 0
        self._others: set[str] = set()  # hosts with other settings
        self._leaving = self._left = False
        self._spoke_s = self._answered_s = boottime_s()  # when the last call was sent; the last one with an answer
        self._again_s = 0.0  # no call before that
        self._repeats = 0
        self._trouble = Failure("", "")
        self._trouble_since_s: float | None = None
        self._told = False

    # ---- opening ----------------------------------------------------------------------------------------------------

    def ask(self, statement: Statement, deadline_s: float) -> Answer:
        """The answer to one statement, waited for until `deadline_s`. For an opening, before `begin_epoch`.

        Raises LedgerError, which says what to do; LedgerUnusable if the store has other functions than this program.
        """
        sent_on = -1
        while True:
            news = self._connection.turn()
            if isinstance(news, Answer):
                return news
            if isinstance(news, Failure):
                raise self._error(news)
            if self._connection.idle and sent_on != self._connection.opened:  # again after a loss
                self._connection.send(statement)
                sent_on = self._connection.opened
            self._wait(deadline_s)

    def begin_epoch(self, me: Epoch, asked_s: float, settings: int) -> None:
        """Be this holder from now on. `asked_s`: a time before the store was asked; `settings`: as registered."""
        self._settings = settings
        self._me, self._resumed_on, self._spoke_s = me, self._connection.opened, boottime_s()
        self._answered_s = asked_s

    # ---- calls ------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The holder's."""
        return self._me.epoch

    @property
    def holds_until_s(self) -> float:
        """Until when no other holder fences this one: the lease counts from the sending of the last call that had an
        answer, as others may have seen that call at any time since."""
        return self._answered_s + self.lease_s

    @property
    def due_s(self) -> float:
        """When `go_on` has to be called at the latest."""
        if self._asked is not None or not self._connection.idle:
            return self._connection.due_s
        beat_s = min(self._spoke_s, self._looked_s) + self._beat_s
        return max(self._again_s, 0.0 if self._request is not None else min(beat_s, self._peers.due_s))

    @property
    def outage(self) -> str:
        """Why there is no answer at present; "" while there is no trouble."""
        return "" if self._trouble_since_s is None else explained(*self._trouble)

    def submit(self, claims: Sequence[Entry], settles: Sequence[Entry]) -> None:
        """Begin a call; the former one was answered."""
        self._request = (claims, settles)

    def maintain(self, keep_s: float) -> None:
        """Do the upkeep of the history soon, for a pool that keeps settled rows for `keep_s`."""
        self._keep_s = keep_s

    def go_on(self) -> dict[bytes, Refusal] | None:
        """Do what is due without waiting. Returns what the store refused, by key, once the call is answered.

        Raises LedgerError: another process has this holder's place, or the store refuses the call for good.
        """
        answered: dict[bytes, Refusal] | None = None
        news = self._connection.turn()
        if not self._connection.up:
            self._asked = None  # it is asked again on the next connection
            if self._connection.failure.text:
                self._in_trouble(self._connection.failure)
        elif news is not None and self._asked is not None:
            asked, self._asked = self._asked, None
            if isinstance(news, Answer):
                answered = self._answered(asked, news)
            else:
                self._refused(asked, news)
        if self._connection.idle and self._asked is None and boottime_s() >= self._again_s:
            self._ask_next()
        self._tell()
        return answered

    def leave(self) -> None:
        """Tell the store that this holder stops, if it answers within a moment; nothing is wrong if it does not."""
        self._leaving = True
        deadline_s = boottime_s() + LEAVE_S
        try:
            while self._connection.up and self._request is None and not self._left:
                self.go_on()
                self._wait(deadline_s)
        except LedgerError:
            return

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _ask_next(self) -> None:
        now_s = boottime_s()
        if self._resumed_on != self._connection.opened:
            self._send(_Call.RESUME, calls.resume(self._me.epoch))
        elif self._request is not None:
            self._send(_Call.TURN, calls.turn(self._me, *self._request))
        elif self._leaving and not self._left:
            self._send(_Call.LEAVE, calls.leave(self._me))
        elif self._keep_s is not None:
            self._send(_Call.MAINTAIN, calls.maintain(self._keep_s))
        elif now_s >= self._spoke_s + self._beat_s:
            self._send(_Call.BEAT, calls.turn(self._me, (), ()))
        else:
            self._ask_about_peers(now_s)

    def _ask_about_peers(self, now_s: float) -> None:
        if (peer := self._peers.silent(now_s)) is not None:
            self._target = peer
            self._send(_Call.FENCE, calls.fence(self._me, peer))
        elif (peer := self._peers.over(now_s)) is not None:
            self._target = peer
            self._send(_Call.LOSE, calls.lose(self._me, peer.epoch))
        elif now_s >= self._looked_s + self._beat_s:
            self._looked_s = now_s
            self._send(_Call.PEERS, calls.peers(self._me))

    def _send(self, call: _Call, statement: Statement) -> None:
        self._asked = call
        if call in _RENEWING:
            self._spoke_s = boottime_s()
        self._connection.send(statement)

    def _answered(self, asked: _Call, answer: Answer) -> dict[bytes, Refusal] | None:
        if asked in _RENEWING:
            self._answered_s = self._spoke_s
        self._repeats = 0
        self._out_of_trouble()
        if asked is _Call.RESUME:
            self._me, self._resumed_on = self._me._replace(turn=calls.resumed(answer)), self._connection.opened
        elif asked is _Call.MAINTAIN:
            self._keep_s = None
        elif asked is _Call.LEAVE:
            self._left = True
        elif asked is _Call.PEERS:
            self._look(calls.watched(answer))
        elif asked in (_Call.FENCE, _Call.LOSE):
            self._took(asked, calls.took_effect(answer))
        else:
            self._me = self._me._replace(turn=self._me.turn + 1)
        if asked is not _Call.TURN:
            return None
        self._request = None
        return calls.refusals(answer)

    def _refused(self, asked: _Call, failure: Failure) -> None:
        means = meaning(failure.sqlstate)
        if asked is _Call.MAINTAIN and means is not Meaning.RECONNECT:
            self._keep_s = None  # it is tried again with the next occasion
            text = f"the store of the fleet at {self.shown} could not do its upkeep: {explained(*failure)}"
            log(Event.FLEET_UPKEEP_FAILED, text, level=logging.WARNING)
        elif means in (Meaning.ENDED, Meaning.BROKEN):
            raise self._error(failure)
        elif means is Meaning.AGAIN and asked in (_Call.PEERS, _Call.FENCE, _Call.LOSE):
            if self._target is not None:  # after the next look
                self._peers.forget(self._target)
        elif means is Meaning.RECONNECT:
            self._connection.lose(failure.text)
            self._in_trouble(failure)
        else:
            first_s, longest_s = _AGAIN_S
            wait_s = min(longest_s, first_s * 2.0 ** min(self._repeats, 10)) * random.uniform(0.5, 1.0)
            self._again_s, self._repeats = boottime_s() + wait_s, self._repeats + 1
            self._in_trouble(failure)

    def _look(self, peers: list[Peer]) -> None:
        self._peers.look(peers, boottime_s())
        others = {peer.host for peer in peers if peer.settings != self._settings}
        if others - self._others:
            text = f"other settings than here on {', '.join(sorted(others))}: {AGREED} must be the same on all hosts"
            log(Event.FLEET_MISMATCH, text, level=logging.WARNING, hosts=sorted(others))
        self._others = others

    def _took(self, asked: _Call, took_effect: bool) -> None:
        """A holder was fenced, or declared lost; not so if it has called, or if another holder was faster."""
        peer, self._target = self._target, None
        if peer is None:
            return
        self._peers.forget(peer)
        if not took_effect:
            return
        where = f"host {peer.host!r} (epoch {peer.epoch})"
        if asked is _Call.FENCE:
            self._peers.fenced(peer, boottime_s())
            wait_s = self._peers.wait_s(peer._replace(state=FENCED))
            silence = show_seconds(round(self._peers.wait_s(peer)))
            text = (
                f"{where} has not called the store for {silence} and is fenced: what it has in hand waits another "
                f"{show_seconds(round(wait_s))} for it to come back, and is in doubt then"
            )
            log(Event.FLEET_FENCED, text, level=logging.WARNING, host=peer.host, epoch=peer.epoch)
        else:
            text = (
                f"{where} has not come back: the {peer.open_rows} message(s) that it had in hand are in doubt, and "
                "decided by the host that gets them (on_crash)"
            )
            log(Event.FLEET_HOST_LOST, text, level=logging.ERROR, host=peer.host, epoch=peer.epoch)

    def _error(self, failure: Failure) -> LedgerError:
        where = f"the store of the fleet at {self.shown}"
        if meaning(failure.sqlstate) is Meaning.ENDED:
            return LedgerError(
                f"{where}: {failure.text}: another host has fenced this one after the silence of a lease, an operator "
                "has declared it lost, another process has registered this ledger, or the store was set back; this "
                "pool registers again"
            )
        if failure.sqlstate in ("3F000", "42883", "42P01"):
            return LedgerUnusable(f"{where} has no schema that this version knows: run `preforkd fleet check`")
        return LedgerError(f"{where}: {explained(*failure)}")

    def _wait(self, deadline_s: float) -> None:
        """Until there may be news. Raises LedgerError at `deadline_s`, or when no host could be reached."""
        left_s = deadline_s - boottime_s()
        if left_s <= 0 or (self._connection.rounds and not self._connection.up):
            failure = self._connection.failure
            raise self._error(failure if failure.text else Failure("", "it does not answer"))
        self._descriptors.wake_at(self._connection.due_s)
        readable(self._descriptors.fileno(), left_s)

    def _in_trouble(self, failure: Failure) -> None:
        self._trouble = failure
        if self._trouble_since_s is None:
            self._trouble_since_s = boottime_s()

    def _out_of_trouble(self) -> None:
        if self._told and self._trouble_since_s is not None:
            lasted = show_seconds(round(boottime_s() - self._trouble_since_s))
            text = f"the store of the fleet at {self.shown} answers again after {lasted}: messages are started again"
            log(Event.FLEET_RESTORED, text)
        self._trouble_since_s, self._told = None, False

    def _tell(self) -> None:
        since_s = self._trouble_since_s
        if since_s is None or self._told or boottime_s() - since_s < TELL_S:
            return
        self._told = True
        text = (
            f"the store of the fleet at {self.shown} is not usable: {explained(*self._trouble)}; until it is, nothing "
            "new is started, running messages finish, and their outcomes wait on this host"
        )
        log(Event.FLEET_UNREACHABLE, text, level=logging.WARNING)
