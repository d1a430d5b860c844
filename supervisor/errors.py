"""Every error that preforkd reports to a user. Its text is the whole message: what was wrong, where, what to do.

The command line prints `error: <text>` and exits with `exit_code`. A user never sees one of these as a traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec

_ADVICE = {
    errno.EROFS: "name a directory that can be written to",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EMFILE: "raise the limit of descriptors (ulimit -n)",
    errno.ENFILE: "the machine has no descriptors left",
}


def what_helps(error: OSError, otherwise: str) -> str:
    """The advice for a file that cannot be opened or written; `otherwise` if the file itself is the reason."""
    return _ADVICE.get(error.errno or 0, otherwise)


def no_such_pool(name: str, queues: Mapping[str, str]) -> str:
    """The error text for a name that is no pool's. `queues`: the known pools, and the queue of each."""
    return f"there is no pool {name!r}; there are {', '.join(queues) or 'none'}{like_a_pool(name, queues)}"


def like_a_pool(name: str, queues: Mapping[str, str]) -> str:
    """` (did you mean 'email'?)` if the name is similar to that of a pool or queue in `queues`, else ""."""
    from difflib import get_close_matches  # loaded late: workers import this file, and never need it

    known = [*queues, *queues.values()]
    near = get_close_matches(name, known, n=1) if name not in known else []
    return f" (did you mean {near[0]!r}?)" if near else ""


class PreforkdError(Exception):
    """The base of all errors that are meant for users."""

    exit_code = 1


class Problem(msgspec.Struct, frozen=True):
    """One fault of the configuration: its key (`pools.email.timeout`), the value found, the reason and a hint."""

    path: str
    value: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.path}{value}: {self.reason}{hint}"


class ConfigError(PreforkdError):
    """The configuration in `source` (a path) cannot be used; `problems` has all its faults."""

    exit_code = 78

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{source}: {len(problems)} problem(s)\n{lines}")


class BootError(PreforkdError):
    """A handler cannot be used: not importable, not callable, or its import left threads or sockets open."""

    exit_code = 78


class BrokerRefused(PreforkdError):
    """The broker refuses permanently: wrong credentials, unknown vhost, a stream, no such queue."""


class BrokerUnavailable(PreforkdError):
    """The broker cannot be reached now; a later attempt may succeed."""


class LedgerError(PreforkdError):
    """The ledger cannot be read or written: disk full, no permission, damaged, or in use by another consumer."""


class LedgerUnusable(LedgerError):
    """The ledger cannot be used, now or later: damaged, or written by another version."""


class StateError(PreforkdError):
    """A state or runtime directory, a slot file, a lock, PID file or socket cannot be used."""


class ControlError(PreforkdError):
    """A control request failed: the daemon does not run, belongs to another user, or answered with an error."""
