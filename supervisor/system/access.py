"""Finds what keeps a user from a file: a directory on its path, or the file itself; and the command that mends it.

It tries the real thing (lstat, open) with the rights that the process has: groups, access lists and network file
systems have their say. Only the command is worked out from modes. No state, nothing is changed.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

from supervisor.system.accounts import Account, acting_as, own_account
from supervisor.system.trust import places

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Without waiting: at a FIFO without a writer, open(2) would wait for ever."""


class Obstacle(NamedTuple):
    """`place` keeps `user` from `path`: the file itself, or (`above`) a directory on the way to it.

    `right`: the missing one ("r", "x", "rx"), "" where the reason is another, `error`.
    """

    user: Account
    path: Path
    place: Path
    above: bool
    right: str
    error: str

    def __str__(self) -> str:
        if not self.right:
            return f"{self.path} cannot be read: {self.error}"
        verb = "pass" if self.above else {"r": "read", "x": "run", "rx": "list"}[self.right]
        if self.place == self.path:
            return f"user {self.user.name} may not {verb} it"
        return f"user {self.user.name} may not {verb} {self.place}, which leads to {self.path}"

    def command(self, secret: bool = False, tree: Path | None = None) -> str:
        """The shell command that gives the missing right to the user; "" where no right is missing.

        `secret`: the file is for that user's group, not for all users. `tree`: a directory of code, which is opened as
        a whole if the obstacle is in it.
        """
        if not self.right:
            return ""
        place = shlex.quote(str(self.place))
        try:
            found = self.place.stat()
        except OSError:
            return f"setfacl -m u:{self.user.name}:{self.right} {place}"
        who = _class_of(found, self.user)
        if found.st_mode & _bits(self.right) << _SHIFT[who] == _bits(self.right) << _SHIFT[who]:
            return f"setfacl -m u:{self.user.name}:{self.right} {place}"  # an access list refuses what the mode gives
        if secret and who == "o" and not self.above:
            return f"chgrp {self.user.group} {place} && chmod g+{self.right} {place}"
        if tree is not None and (self.place == tree or tree in self.place.parents):
            return f"chmod -R {who}+rX {shlex.quote(str(tree))}"
        return f"chmod {who}+{self.right} {place}"


_SHIFT = {"u": 6, "g": 3, "o": 0}


def _bits(right: str) -> int:
    return sum({"r": stat.S_IROTH, "x": stat.S_IXOTH}[letter] for letter in right)


def _class_of(found: os.stat_result, user: Account) -> str:
    """Whose bits of the mode count for a user, as path_resolution(7) has it."""
    if found.st_uid == user.uid:
        return "u"
    return "g" if found.st_gid == user.gid or found.st_gid in user.groups else "o"


def obstacle(path: Path, right: str = "r", user: Account | None = None) -> Obstacle | None:
    """What keeps `user` (None: this process) from a file; None where nothing does.

    `right`: "r" to read a file, "rx" to list a directory, "x" to run a program. Another user needs root, and a process
    of one thread.
    """
    me = user or own_account()
    reached = path
    try:
        with acting_as(user):
            for place, _found, _last in places(path):
                reached = place
            _use(reached, right)
    except PermissionError as error:
        above = Path(error.filename) != reached
        return Obstacle(me, path, reached, above, "x" if above else right, error.strerror or "")
    except OSError as error:
        return Obstacle(me, path, reached, False, "", error.strerror or "")
    return None


def _use(place: Path, right: str) -> None:
    """Raise OSError where the right is missing. A listed directory is also passed."""
    if right == "r":
        os.close(os.open(place, _OPEN))
    if right == "rx":
        os.scandir(place).close()
    if "x" in right and not os.access(place, os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
