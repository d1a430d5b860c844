"""A lock on a directory's name that no deleted file can break: a second daemon beside the first. Master only.

A deleted directory takes its lock files with it: its daemon goes on without them, and a new daemon would find no lock.
An abstract socket (unix(7)) is a name in the kernel, which gives it up when its process dies.
"""

from __future__ import annotations

import os
import socket
import struct
from _blake2 import blake2b  # hashlib brings OpenSSL, 0.7 MiB of memory
from contextlib import suppress
from pathlib import Path
from typing import Self

from supervisor.errors import StateError

_UCRED = struct.Struct("3i")


class NameLock:
    """The name of `directory`, links resolved, for as long as this process lives or until the context is left.

    Names are those of our user, in our network namespace. Raises StateError: another daemon has it. A process of
    another user that has the name does not keep a daemon from starting: the lock files are there, too.
    """

    def __init__(self, directory: Path, what: str) -> None:
        """`what`: the thing that is locked, as in `the state directory /var/lib/preforkd`."""
        digest = blake2b(os.fsencode(os.path.realpath(directory)), digest_size=16).hexdigest()
        address = f"\0preforkd-{os.geteuid()}-{digest}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(address)
            self._socket.listen(1)
        except OSError:
            self._socket.close()
            pid = _holder(address)
            if pid is not None:
                raise StateError(
                    f"{what} is in use by pid {pid}, though its lock is gone: somebody has deleted the directory under "
                    f"that daemon; end it (`kill {pid}`), or choose another directory"
                ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _holder(address: str) -> int | None:
    """The pid of the process of our user that has this name; None when there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, suppress(OSError):
        asking.setblocking(False)
        asking.connect(address)
        pid, uid, _gid = _UCRED.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return pid if uid == os.geteuid() else None
    return None
