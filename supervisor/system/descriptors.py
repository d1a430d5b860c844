"""The limit of open descriptors: raised at the start, checked before many are opened.

A master without a free descriptor can start no child, read nothing in /proc and answer no command. So a command that
would leave too few of them is refused.
"""

from __future__ import annotations

import os
import resource
from collections.abc import MutableMapping

from supervisor.errors import StateError

VARIABLE = "PREFORKD_NOFILE"
"""Environment variable with the soft limit at the daemon's start, for children."""

RESERVE = 96
"""Kept free in the master: for clients of the control socket (64), starting children, files open for a moment."""

FOR_ONE_POOL = 10
FOR_THE_DAEMON = 48

_HOW = "raise the limit: `ulimit -n`, LimitNOFILE= of systemd, --ulimit nofile= of Docker"


def raise_limit(environment: MutableMapping[str, str]) -> None:
    """Raise the soft limit to the hard one, and store the former in `environment` for children that run user code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    environment[VARIABLE] = str(soft)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def restore_limit(environment: MutableMapping[str, str]) -> None:
    """Set the soft limit stored in `environment` again: select(2) in user code fails for descriptors above 1023."""
    former = environment.pop(VARIABLE, "")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if former.lstrip("-").isdecimal() and (hard == resource.RLIM_INFINITY or 0 < int(former) <= hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(former), hard))


def limit() -> int:
    """The soft limit of descriptors of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def require(count: int, what: str) -> None:
    """Raise StateError if `count` more descriptors, needed by `what`, would leave too few."""
    there = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  (one call; the descriptor it reads by is not counted)
    spare = min(RESERVE, limit() // 4)
    if count > 0 and there + count + spare > limit():
        raise StateError(
            f"{what} need {count} more descriptors: {there} of {limit()} are in use, {spare} are kept free; {_HOW}"
        )


def require_at_start(workers: list[int]) -> None:
    """Raise StateError if the limit is too low for a daemon with so many `workers` in each pool."""
    needed = FOR_THE_DAEMON + sum(FOR_ONE_POOL + count for count in workers)
    if needed > limit():
        raise StateError(
            f"this daemon needs some {needed} descriptors ({sum(workers)} workers in {len(workers)} pools), "
            f"and may have {limit()}; {_HOW}"
        )
