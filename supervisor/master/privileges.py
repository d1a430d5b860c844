"""The daemon's directories, and giving up root. Done by the master before it starts any child; nothing stays root.

Directories that somebody else could write to are refused: whoever can replace a slot or a socket there controls the
daemon. After the drop there is no way back (setresuid and setresgid semantics of setuid(2) as root).
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from supervisor.config.schema import DaemonConfig
from supervisor.errors import StateError


class Account(NamedTuple):
    """Whom the daemon runs as."""

    uid: int
    gid: int
    groups: list[int]


def account(config: DaemonConfig) -> Account | None:
    """Whom to become; None to stay who we are (not root, or no `user` set). Raises StateError for unknown names."""
    if os.geteuid() != 0 or not config.user:
        return None
    try:
        user = pwd.getpwnam(config.user)
    except KeyError:
        raise StateError(
            f"daemon.user: there is no user {config.user!r}; make it (useradd --system {config.user}), "
            "or change the setting"
        ) from None
    try:
        gid = grp.getgrnam(config.group).gr_gid if config.group else user.pw_gid
    except KeyError:
        raise StateError(f"daemon.group: there is no group {config.group!r}; make it or change the setting") from None
    return Account(user.pw_uid, gid, os.getgrouplist(config.user, gid))


def prepare_directory(path: Path, owner: Account | None) -> None:
    """Make `path` (mode 0750) where it is missing, for `owner` or ourselves; check who owns it where it is there.

    Raises StateError: not a directory, somebody else's, writable by everybody, or it cannot be made.
    """
    uid, gid = (owner.uid, owner.gid) if owner else (os.geteuid(), -1)
    try:
        _make(path, uid, gid)
        found = path.stat()
    except OSError as error:
        raise StateError(
            f"{path}: this directory cannot be made or used: {error.strerror}; make it for uid {uid}, or choose another"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{path}: this is not a directory; remove it, or choose another")
    if found.st_uid != uid:
        raise StateError(
            f"{path}: this directory belongs to uid {found.st_uid}, the daemon runs as uid {uid}; "
            "change its owner (chown), or choose another directory"
        )
    if found.st_mode & stat.S_IWOTH:
        raise StateError(f"{path}: everybody can write to this directory; take that away (chmod o-w {path})")


def become(target: Account) -> None:
    """Give up root for good, supplementary groups first. Raises OSError when the kernel refuses."""
    os.setgroups(target.groups)
    os.setresgid(target.gid, target.gid, target.gid)
    os.setresuid(target.uid, target.uid, target.uid)


def _make(path: Path, uid: int, gid: int) -> None:
    if path.exists():
        return
    path.mkdir(mode=0o750, parents=True)
    if uid != os.geteuid():
        os.chown(path, uid, gid)
