"""The consequence of a failed run: another attempt, the dead letters, or the parked queue. Pure, a table.

Used by the settlement, in the consumer process. With `on_crash = "inbox"` a death alone never makes a dead letter: the
message's inbox is asked first, by one more attempt, whether an earlier one has committed. What that attempt finds goes
with the dead letter, which tells of the death.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from supervisor.config.schema import PoolConfig
from supervisor.consumer.settlement.messages import NONE_EARLIER, Earlier, Failure
from supervisor.ledger.base import RowState
from supervisor.scoreboard.words import OutcomeKind


class _Ended(NamedTuple):
    """A run that has ended badly. `earlier`: what was known before it; `charged`: attempts that count, with it."""

    kind: OutcomeKind
    pool: PoolConfig
    earlier: Earlier
    charged: int

    @property
    def died(self) -> bool:
        return self.kind is OutcomeKind.IN_DOUBT

    @property
    def used_up(self) -> bool:
        return self.charged >= self.pool.max_attempts


_ASKS = RowState.RETRY_PENDING
"""The message's inbox is asked: by an attempt, so by a retry copy."""

_COMMITTED = "its effect is committed, and a new round would repeat it"

_RULES: tuple[tuple[Callable[[_Ended], bool], RowState], ...] = (
    (lambda run: run.earlier.given_up is not None, RowState.DEAD_PENDING),
    (lambda run: run.kind is OutcomeKind.REJECT, RowState.DEAD_PENDING),
    (lambda run: run.died and run.pool.on_crash == "park", RowState.PARKED_PENDING),
    (lambda run: run.died and run.used_up and run.pool.on_crash == "inbox", _ASKS),
    (lambda run: run.used_up, RowState.DEAD_PENDING),
    (lambda run: True, RowState.RETRY_PENDING),
)
"""The first row whose test holds decides."""


def fate_of(
    kind: OutcomeKind, attempt: int, pool: PoolConfig, failure: Failure, earlier: Earlier
) -> tuple[RowState, Failure]:
    """What follows after run number `attempt` ended as `kind` (IN_DOUBT: its worker died): which copy is to be made,
    and the failure, with the delay of a retry copy: the one that the handler asked for, or the pool's (its last one
    repeats), or none after a death that an inbox decides. `earlier`: what the run knew of others of its round."""
    run = _Ended(kind, pool, earlier, attempt - _uncharged(kind, pool, earlier))
    pending = next(state for test, state in _RULES if test(run))
    if pending is not RowState.RETRY_PENDING:
        return pending, _diagnosed(run, failure)
    inbox_decides = run.died and pool.on_crash == "inbox"
    after = earlier.with_run(inbox_decides, failure.database)
    if inbox_decides:
        if run.used_up:
            after = msgspec.structs.replace(after, given_up=failure.in_short, attempts=attempt)
        return pending, msgspec.structs.replace(failure, delay_s=0.0, earlier=after)
    delays_s = pool.retry_delays_s
    delay_s = failure.delay_s or delays_s[min(attempt, len(delays_s)) - 1]
    return pending, msgspec.structs.replace(failure, delay_s=delay_s, earlier=None if after == NONE_EARLIER else after)


def attempt_of(kind: OutcomeKind, attempt: int, pool: PoolConfig, earlier: Earlier) -> str:
    """Which attempt ended as `kind`, for the log: `attempt 2 of 5`. Others as in `fate_of`."""
    if earlier.given_up is not None:
        return f"attempt {attempt}, which asked its inbox after the last one"
    return f"attempt {attempt} of {pool.max_attempts + _uncharged(kind, pool, earlier)}"


def asking(failure: Failure) -> str:
    """What a retry copy with this failure is for, if only to ask an inbox: the end of a log line, else ""."""
    asks = failure.earlier is not None and failure.earlier.given_up is not None
    return ": no attempt is left, and the next run asks its inbox whether an earlier one has committed" if asks else ""


def _uncharged(kind: OutcomeKind, pool: PoolConfig, earlier: Earlier) -> bool:
    """Whether a death of this round was not charged: with an inbox the first one proves nothing about the message."""
    return pool.on_crash == "inbox" and (kind is OutcomeKind.IN_DOUBT or earlier.deaths > 0)


def _diagnosed(run: _Ended, failure: Failure) -> Failure:
    """The failure as the dead or parked letter tells it: of a run that only asked, the death before it comes first."""
    given_up = run.earlier.given_up
    if given_up is not None:
        if run.kind is OutcomeKind.REJECT:
            found = f"then its inbox was asked: {failure.reason}"
        elif run.kind is OutcomeKind.PUBLISH_FAILED and failure.database:
            found = f"then its inbox was asked: {_COMMITTED}; what it stored was not published: {failure.reason}"
        else:
            found = (
                f"then its inbox was asked, without an answer ({failure.cause}: {failure.reason}): it is not known "
                "whether its effect has happened, and a new round would repeat it"
            )
        return msgspec.structs.replace(given_up, reason=f"{given_up.reason}; {found}")
    if run.kind is OutcomeKind.PUBLISH_FAILED and failure.database:
        return msgspec.structs.replace(failure, reason=f"{failure.reason}; {_COMMITTED}")
    return failure
