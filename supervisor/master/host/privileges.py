"""The daemon's directories, its log file, and giving up root. Done before any child is started; nothing stays root.

Directories that another user could write to are refused: a user who can replace a slot or a socket there controls the
daemon. The path of the log may lie where that user can put a link or a FIFO: root must follow and give away nothing
there. After the drop there is no way back (setresuid and setresgid semantics of setuid(2) as root).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from supervisor.config.schema import DaemonConfig
from supervisor.errors import StateError, what_helps
from supervisor.system.accounts import Account, account_of, acting_as
from supervisor.system.trust import changeable_by

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Without waiting: at a FIFO without a reader, open(2) would wait for ever."""

_MODE = 0o640


def account(config: DaemonConfig) -> Account | None:
    """Whom to become; None to stay who we are (not root, or no `user` set). Raises StateError for unknown names."""
    if os.geteuid() != 0 or not config.user:
        return None
    return account_of(config.user, config.group)


def prepare_directory(path: Path, owner: Account | None) -> None:
    """Make `path` (mode 0750) where it is missing, for `owner` or ourselves; check who owns it where it is there.

    Raises StateError: not a directory, another user's, writable by all users, or it cannot be made.
    """
    uid = owner.uid if owner else os.geteuid()
    try:
        _make(path, owner)
        found = path.stat()
    except OSError as error:
        raise StateError(
            f"{path}: this directory cannot be made or used: {error.strerror}; make it for uid {uid}, or choose another"
        ) from error
    refuse_directory(path, found, uid)


def refuse_directory(path: Path, found: os.stat_result, uid: int) -> None:
    """Raise StateError where a daemon of `uid` must not keep its state or sockets in a directory that is there."""
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{path}: this is not a directory; remove it, or choose another")
    if found.st_uid != uid:
        inside = f", such as {path / 'preforkd'} inside it" if os.access(path, os.W_OK | os.X_OK) else ""
        raise StateError(
            f"{path}: this directory belongs to uid {found.st_uid}, the daemon runs as uid {uid}; "
            f"change its owner (chown), or choose another directory{inside}"
        )
    if found.st_mode & stat.S_IWOTH:
        raise StateError(f"{path}: all users can write to this directory; take the right away (chmod o-w {path})")
    if uid == 0 and found.st_mode & stat.S_IWGRP:
        raise StateError(
            f"{path}: group {found.st_gid} can write to root's directory; take the right away (chmod g-w {path})"
        )


def become(target: Account) -> None:
    """Give up root for good, supplementary groups first. Raises OSError when the kernel refuses."""
    os.setgroups(target.groups)
    os.setresgid(target.gid, target.gid, target.gid)
    os.setresuid(target.uid, target.uid, target.uid)


def _make(path: Path, owner: Account | None) -> None:
    """Make a directory where it is missing. Root makes it only where no other user can interfere, else the owner."""
    if path.exists():
        return
    if owner is None or not changeable_by(path.parent):
        path.mkdir(mode=0o750, parents=True)
        if owner is not None:
            _give(path, owner)
    else:
        with acting_as(owner):
            path.mkdir(mode=0o750, parents=True)


def _give(path: Path, owner: Account) -> None:
    """Give the directory just made to its owner: that very one, whatever is at its path by now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as entries:
            just_made = os.fstat(descriptor).st_uid == os.geteuid() and next(entries, None) is None
        if just_made:
            os.fchown(descriptor, owner.uid, owner.gid)
    finally:
        os.close(descriptor)


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
            return _make_log(path, owner)
        raise StateError(
            f"{path}: the log cannot be opened{_for(owner)}: {error.strerror}; {what_helps(error, _hint(path, owner))}"
        ) from error
    os.set_blocking(descriptor, True)
    return descriptor


def _make_log(path: Path, owner: Account) -> int:
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
