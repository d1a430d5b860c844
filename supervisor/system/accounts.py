"""Accounts of the machine: the user that this process has, or is to have. No state.

Root looks at files with the rights of another user in `acting_as`: the kernel decides, as it will for the daemon.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from supervisor.errors import StateError


class Account(NamedTuple):
    """A user with a primary group, and all its groups."""

    uid: int
    gid: int
    groups: list[int]

    @property
    def name(self) -> str:
        """The user's name, or its uid where it has none: chown(1) and setfacl(1) take both."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def group(self) -> str:
        """The primary group's name, or its gid where it has none."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return str(self.gid)


def account_of(user: str, group: str = "") -> Account:
    """The account of the configured names; `group` "": the user's own. Raises StateError for unknown names."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise StateError(
            f"daemon.user: there is no user {user!r}; make it (useradd --system {user}), or change the setting"
        ) from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else found.pw_gid
    except KeyError:
        raise StateError(f"daemon.group: there is no group {group!r}; make it or change the setting") from None
    return Account(found.pw_uid, gid, os.getgrouplist(user, gid))


def own_account() -> Account:
    """The account of this process."""
    return Account(os.geteuid(), os.getegid(), os.getgroups())


@contextmanager
def acting_as(target: Account | None) -> Iterator[None]:
    """Have the rights of `target` for a while, and no others; None changes nothing. For root, while it has one thread.

    Root opens and makes files with these rights where another user may have prepared the path (a link, a FIFO).
    """
    if target is None:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    os.setgroups(target.groups)
    os.setegid(target.gid)
    os.seteuid(target.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
