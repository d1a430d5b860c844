"""The store's functions as a holder calls them: parameters in binary form, answers, and what an error means. Pure.

Used by the consumer of a pool in a fleet. The functions themselves are in `sql/`: what they promise stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from supervisor.fleet.encoding import (
    Answer,
    Parameter,
    Statement,
    bigint,
    byteas,
    digests,
    double,
    ids,
    ints,
    text,
    texts,
    to_bigint,
    to_double,
    to_int,
    uuid,
)

ABOUT = Statement(b"SELECT schema, fleet FROM preforkd.about_1()")

_REGISTER = b"SELECT * FROM preforkd.register_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_MINE = b"SELECT * FROM preforkd.mine_1($1)"
_RESUME = b"SELECT preforkd.resume_1($1)"
_PEERS = b"SELECT * FROM preforkd.peers_1($1)"
_FENCE = b"SELECT preforkd.fence_1($1, $2, $3)"
_LOSE = b"SELECT preforkd.lose_1($1, $2)"
_LEAVE = b"SELECT preforkd.leave_1($1, $2)"
_MAINTAIN = b"SELECT * FROM preforkd.maintain_1($1)"
_BEAT = b"SELECT * FROM preforkd.turn_1($1, $2)"
_TURN = b"SELECT * FROM preforkd.turn_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"


class Holder(NamedTuple):
    """Who registers: the pool of a host. `place`: where its ledger's file is. `settings`: a hash of what must agree in
    a fleet (64 bits, signed)."""

    ledger: bytes
    place: str
    host: str
    pool: str
    queue: str
    lease_s: float
    max_run_s: float
    settings: int
    version: str


class Blocker(NamedTuple):
    """The live holder of the same ledger in another place, and the number of its next call."""

    epoch: int
    turn: int
    host: str
    lease_s: float


class Epoch(NamedTuple):
    """What `register` gives: the epoch, and the number of its next call."""

    epoch: int
    turn: int


class Peer(NamedTuple):
    """Another holder on the queue. `turn`: the number of its next call. `state`: l, live, or f, fenced and not lost.
    `max_run_s`: how long a run may last there. `open_rows`: of one that is fenced. `settings`: as of `Holder`."""

    epoch: int
    turn: int
    state: str
    host: str
    lease_s: float
    max_run_s: float
    open_rows: int = 0
    settings: int = 0


class Entry(NamedTuple):
    """A message in a call. `state`: a letter of the store (see `sql/turn.sql`)."""

    key: bytes
    round: int
    attempt: int
    state: str
    name: str = ""
    note: bytes = b""


class Refusal(NamedTuple):
    """The row in the way of an entry. `age_s`: since when it is there. `is_open`: whether its message is in hand."""

    key: bytes
    round: int
    attempt: int
    state: str
    epoch: int
    age_s: float
    name: str
    note: bytes
    host: str
    lost: bool
    is_open: bool


class Meaning(Enum):
    """What an error of the store means for a request."""

    AGAIN = auto()  # it had no effect, and may be sent again on this connection
    RECONNECT = auto()  # the same, on another connection
    ENDED = auto()  # another process has this holder's place
    BROKEN = auto()  # it would be refused again


_MEANINGS = {
    "PF001": Meaning.ENDED,
    "PF002": Meaning.ENDED,
    "40001": Meaning.AGAIN,  # serialization failure
    "40P01": Meaning.AGAIN,  # deadlock
    "55P03": Meaning.AGAIN,  # lock timeout
    "57014": Meaning.AGAIN,  # statement timeout, or cancelled
    "53": Meaning.AGAIN,  # no disk, memory or connections left
    "58": Meaning.AGAIN,  # an error of the system
    "08": Meaning.RECONNECT,
    "25": Meaning.RECONNECT,  # read-only: it has become a standby
    "40003": Meaning.RECONNECT,  # whether it was committed is not known
    "57P": Meaning.RECONNECT,  # shut down, not started yet
}
"""By SQLSTATE or its beginning (PostgreSQL, appendix A)."""


def meaning(sqlstate: str) -> Meaning:
    """What an error with this `sqlstate` means; "" is one of the connection."""
    if not sqlstate:
        return Meaning.RECONNECT
    parts = (sqlstate, sqlstate[:3], sqlstate[:2])
    return next((_MEANINGS[part] for part in parts if part in _MEANINGS), Meaning.BROKEN)


def register(holder: Holder, silent: Blocker | None) -> Statement:
    """`silent`: a blocker whose number of calls has stood still for longer than its lease."""
    parameters = [
        uuid(holder.ledger),
        text(holder.place),
        text(holder.host),
        text(holder.pool),
        text(holder.queue),
        double(holder.lease_s),
        double(holder.max_run_s),
        bigint(holder.settings),
        text(holder.version),
        bigint(silent.epoch if silent else None),
        bigint(silent.turn if silent else None),
    ]
    return Statement(_REGISTER, parameters)


def mine(epoch: int) -> Statement:
    """The open rows of an `epoch`."""
    return Statement(_MINE, [bigint(epoch)])


def resume(epoch: int) -> Statement:
    """Go on with an `epoch` on a new connection."""
    return Statement(_RESUME, [bigint(epoch)])


def peers(me: Epoch) -> Statement:
    """The holders that `me` has to watch."""
    return Statement(_PEERS, [bigint(me.epoch)])


def fence(me: Epoch, peer: Peer) -> Statement:
    """End the epoch of a `peer` that is silent, if its turn is still this one."""
    return Statement(_FENCE, [bigint(me.epoch), bigint(peer.epoch), bigint(peer.turn)])


def lose(me: Epoch, epoch: int) -> Statement:
    """Let others decide about the rows of an `epoch` that was fenced."""
    return Statement(_LOSE, [bigint(me.epoch), bigint(epoch)])


def leave(me: Epoch) -> Statement:
    """The last call of a holder."""
    return Statement(_LEAVE, [bigint(me.epoch), bigint(me.turn)])


def maintain(keep_s: float) -> Statement:
    """Make and drop parts of the history."""
    return Statement(_MAINTAIN, [double(keep_s)])


def turn(me: Epoch, claims: Sequence[Entry], settles: Sequence[Entry]) -> Statement:
    """One turn; without `claims` and `settles` it is the beat. A key is in one of both, once."""
    begin = [bigint(me.epoch), bigint(me.turn)]
    if not claims and not settles:
        return Statement(_BEAT, begin)
    return Statement(_TURN, [*begin, *_columns(claims), *_columns(settles)])


def _columns(entries: Sequence[Entry]) -> list[Parameter]:
    keys, rounds, attempts, states, names, notes = zip(*entries, strict=True) if entries else [()] * 6
    return [ids(keys), digests(keys), ints(rounds), ints(attempts), texts(states), texts(names), byteas(notes)]


def about(answer: Answer) -> tuple[int, str]:
    """The version of the store's schema, and the name of its fleet."""
    schema, fleet = _filled(answer.rows[0])
    return to_int(schema), fleet.decode()


def registered(answer: Answer) -> Epoch | Blocker:
    """The epoch, or what is in its way."""
    row = answer.rows[0]
    if row[0] is None:
        epoch, turn, host, lease = _filled(row[2:])
        return Blocker(to_bigint(epoch), to_bigint(turn), host.decode(), to_double(lease))
    epoch, turn = _filled(row[:2])
    return Epoch(to_bigint(epoch), to_bigint(turn))


def resumed(answer: Answer) -> int:
    """The number of the next call."""
    return to_bigint(_filled(answer.rows[0])[0])


def watched(answer: Answer) -> list[Peer]:
    """The rows of `peers`, by epoch."""
    return [
        Peer(
            *(to_bigint(epoch), to_bigint(turn), state.decode(), host.decode(errors="replace")),
            *(to_double(lease), to_double(max_run), to_bigint(open_rows), to_bigint(settings)),
        )
        for epoch, turn, state, host, lease, max_run, open_rows, settings in map(_filled, answer.rows)
    ]


def took_effect(answer: Answer) -> bool:
    """Whether `fence` or `lose` has changed anything."""
    return _filled(answer.rows[0])[0] == b"\1"


def entries(answer: Answer) -> list[Entry]:
    """The rows of `mine`."""
    rows = map(_filled, answer.rows)
    return [Entry(a + b, to_int(round), to_int(attempt), state.decode()) for a, b, round, attempt, state in rows]


def refusals(answer: Answer) -> dict[bytes, Refusal]:
    """What of a turn was refused, by key."""
    return {refusal.key: refusal for refusal in map(_refusal, answer.rows)}


def _refusal(row: tuple[bytes | None, ...]) -> Refusal:
    id, digest, round, attempt, state, epoch, age, name, note, host, lost, is_open = _filled(row)
    return Refusal(
        id + digest,
        to_int(round),
        to_int(attempt),
        state.decode(),
        to_bigint(epoch),
        to_double(age),
        name.decode(errors="replace"),
        note,
        host.decode(errors="replace"),
        lost == b"\1",
        is_open == b"\1",
    )


def _filled(row: Sequence[bytes | None]) -> list[bytes]:
    return [value or b"" for value in row]
