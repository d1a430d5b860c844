"""Which users could read or change a file that holds a secret: one rule for every such file. No state.

Read by the command line, the master and the web child. On a machine with other users a secret is its reader's alone,
root's, or of a group that root has given it to. In a container the files that the platform mounts have no other
readers, whatever their mode says: Kubernetes mounts Secrets with 0644 by default.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from supervisor.system.trust import changeable_by, trusted_uids

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of linux/proc_ns.h: the inode of the namespace that the kernel has booted with."""


class Exposure(NamedTuple):
    """Why a file is no place for a secret, and what to do."""

    reason: str
    hint: str


def exposure(path: Path, found: os.stat_result, uid: int, owner: int | None = None) -> Exposure | None:
    """Why the secret in the file at `path` is none; None where only its reader, root and root's groups can have it.

    `found`: of the file. `uid`: the user that reads it; `owner`: a further one that may own it, beside root.
    """
    mounted = _mounted_for_us(path)
    if not mounted and found.st_mode & stat.S_IWOTH:
        return Exposure(f"all users may write to {path}", f"chmod o-w {path}")
    if uid == 0 and (others := changeable_by(path, owner)):
        reason = f"{others} could change or replace {path}, so that root reads another file"
        return Exposure(reason, "keep it in a directory that only root may write to, such as /etc/preforkd")
    if not mounted and found.st_mode & stat.S_IWGRP:
        return Exposure(f"group {found.st_gid} may write to {path}", f"chmod g-w {path}")
    if found.st_uid not in {uid, owner, *trusted_uids()}:
        return Exposure(
            f"{path} belongs to uid {found.st_uid}, which could change it", f"chown it to preforkd's user (uid {uid})"
        )
    return None if mounted else _readers(path, found)


def readable_by(found: os.stat_result, uid: int) -> bool:
    """Whether the user `uid` may read the file: for root, which reads everything itself."""
    if uid in (0, found.st_uid):
        return uid == 0 or bool(found.st_mode & stat.S_IRUSR)
    try:
        account = pwd.getpwuid(uid)
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
    except KeyError:
        groups = []
    return bool(found.st_mode & (stat.S_IRGRP if found.st_gid in groups else stat.S_IROTH))


def _readers(path: Path, found: os.stat_result) -> Exposure | None:
    """Which users besides its owner can read it. A file of root may have a group, as PostgreSQL's key files may."""
    if found.st_mode & stat.S_IROTH and _reachable(path, found.st_gid, stat.S_IXOTH):
        return Exposure(f"all users may read {path}", f"chmod 600 {path}")
    shared = found.st_mode & stat.S_IRGRP and found.st_uid not in trusted_uids()
    if shared and _reachable(path, found.st_gid, stat.S_IXOTH | stat.S_IXGRP):
        return Exposure(f"group {found.st_gid} may read {path}", f"chmod 600 {path}")
    return None


def _reachable(path: Path, gid: int, right: int) -> bool:
    """Whether users with this `right` (bits of a mode) can come to the file: search permission on each directory.

    The group's bits count for directories of the group `gid` alone.
    """
    try:
        parents = [parent.stat() for parent in path.resolve().parents]
    except OSError:
        return True
    bits = [right if parent.st_gid == gid else right & stat.S_IXOTH for parent in parents]
    return all(parent.st_mode & bit for parent, bit in zip(parents, bits, strict=True))


def _mounted_for_us(path: Path) -> bool:
    """Whether the file is on a read-only mount of a container, which the container's init sees as this process does.

    A service of systemd has read-only mounts, too, but the pid namespace of the machine, or its own mount namespace:
    then other users see the file.
    """
    try:
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        contained = Path("/proc/self/ns/pid").stat().st_ino != _INITIAL_PID_NAMESPACE
        return bool(read_only and contained and Path("/proc/1/ns/mnt").samefile("/proc/self/ns/mnt"))
    except OSError:  # the init is another user's, or there is no /proc
        return False
