"""The log file as root opens it before it gives up root: with the rights of the user that the daemon becomes.

Its path may lie where that user, or another one, can put a link or a FIFO. Root must follow and give away nothing
there. Called by the command line, in the process that becomes the master.
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.errors import StateError, what_helps
from supervisor.master.host.privileges import Account, acting_as
from supervisor.system.trust import changeable_by

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Without waiting: at a FIFO without a reader, open(2) would wait for ever."""

_MODE = 0o640


def open_log(path: Path, owner: Account | None) -> int:
    """The log file, for appending, made where it is missing: opened with the rights of `owner`, its owner then.

    Where only root can make it (/var/log), root makes it, and gives nothing away that was there before. Raises
    StateError.
    """
    try:
        with acting_as(owner):
            descriptor = os.open(path, _FLAGS | os.O_CREAT, _MODE)
    except OSError as error:
        if owner is not None and isinstance(error, PermissionError) and not os.path.lexists(path):
            return _make(path, owner)
        raise StateError(
            f"{path}: the log cannot be opened{_for(owner)}: {error.strerror}; {what_helps(error, _hint(path, owner))}"
        ) from error
    os.set_blocking(descriptor, True)
    return descriptor


def _make(path: Path, owner: Account) -> int:
    if others := changeable_by(path.parent):
        raise StateError(
            f"{path}: the log cannot be made: uid {owner.uid} may not, and root makes no file where {others} could "
            "put another in its place; give that user a directory, or correct [log] file"
        )
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    except OSError as error:
        raise StateError(f"{path}: the log cannot be made: {error.strerror}; check [log] file") from error
    os.fchown(descriptor, owner.uid, owner.gid)
    return descriptor


def _for(owner: Account | None) -> str:
    return f" with the rights of uid {owner.uid}" if owner is not None else ""


def _hint(path: Path, owner: Account | None) -> str:
    if owner is not None and path.is_file() and not path.is_symlink():
        return f"if this is intended: chown {owner.uid} {path}; else correct [log] file"
    return "check [log] file and its owner"
