"""What one holder has seen of the others, and what follows: whom to fence, and whose messages to decide. Pure.

Times are those of this host alone (CLOCK_BOOTTIME). That another clock shows another time does no harm, as in the
leader election of Kubernetes (client-go, tools/leaderelection): only its rate matters.
"""

from __future__ import annotations

from math import inf

import msgspec

from supervisor.fleet.calls import Peer

CLOCK_RATES, REST_S = 1.01, 2.0
"""How much faster one host's clock may be than another's, and what is added to each wait."""
LIVE, FENCED = "l", "f"
"""States of a peer."""
LOOKS = 4
"""Looks in a lease, at least: over a longer gap the store may have been away, so that no holder could call."""


def silence_s(lease_s: float) -> float:
    """How long a holder with this lease must have made no call, by the clock of the one who looks, to be fenced."""
    return CLOCK_RATES * lease_s + REST_S


class _Seen(msgspec.Struct):
    """`since_s`: since when the holder has made no call, or has been fenced; `looked_s`: when that was seen last."""

    peer: Peer
    since_s: float
    looked_s: float


class Peers:
    """The other holders of a queue, as a holder with beats of `beat_s` sees them. `host_wait_s`: how much longer a host
    may come back and decide about its messages itself."""

    def __init__(self, beat_s: float, host_wait_s: float) -> None:
        self._beat_s = beat_s
        self._host_wait_s = host_wait_s
        self._seen: dict[int, _Seen] = {}

    def look(self, peers: list[Peer], now_s: float) -> None:
        """These are there. `now_s`: a time after the answer, so each call that it counts was sent before."""
        seen: dict[int, _Seen] = {}
        for peer in peers:
            former = self._seen.get(peer.epoch)
            same = former is not None and (former.peer.state, former.peer.turn) == (peer.state, peer.turn)
            if former is not None and same and (peer.state == FENCED or now_s - former.looked_s <= self._gap_s(peer)):
                seen[peer.epoch] = _Seen(peer, former.since_s, now_s)
            else:
                seen[peer.epoch] = _Seen(peer, now_s, now_s)
        self._seen = seen

    def fenced(self, peer: Peer, now_s: float) -> None:
        """This holder was fenced by us, before `now_s`."""
        self._seen[peer.epoch] = _Seen(peer._replace(state=FENCED), now_s, now_s)

    def forget(self, peer: Peer) -> None:
        """Nothing is to be done about this holder before the next look."""
        self._seen.pop(peer.epoch, None)

    def silent(self, now_s: float) -> Peer | None:
        """A holder that has made no call for longer than its lease: it has stopped by itself, and may be fenced."""
        return self._first(LIVE, now_s)

    def over(self, now_s: float) -> Peer | None:
        """A fenced holder whose runs have all ended: the other hosts may decide about its messages."""
        return self._first(FENCED, now_s)

    def wait_s(self, peer: Peer) -> float:
        """How long it takes from now on until `silent`, or `over`, tells of this holder.

        It begins nothing from half of its lease on, and is fenced after the end of that. So its last run may go on for
        `max_run_s`, less half of a lease, after it was fenced.
        """
        if peer.state == LIVE:
            return silence_s(peer.lease_s)
        return max(0.0, CLOCK_RATES * peer.max_run_s - peer.lease_s / 2) + REST_S + self._host_wait_s

    @property
    def due_s(self) -> float:
        """When `silent` or `over` tell of one, if nothing changes."""
        return min((seen.since_s + self.wait_s(seen.peer) for seen in self._seen.values()), default=inf)

    def _first(self, state: str, now_s: float) -> Peer | None:
        for seen in self._seen.values():
            due = seen.peer.state == state and now_s >= seen.since_s + self.wait_s(seen.peer)
            if due and (state == FENCED or now_s - seen.looked_s <= self._gap_s(seen.peer)):
                return seen.peer
        return None

    def _gap_s(self, peer: Peer) -> float:
        return max(peer.lease_s / LOOKS, 2.5 * self._beat_s)
