"""Notices deleted, moved or replaced files of a pool: the kernel does not report this.

Runs in the consumer process, which looks once a second. An open file works on without its name, so there is no error
until the next process opens a new one in its place. Then the old file's content is lost, and nothing reports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from supervisor.errors import LedgerError


class StateMissing(LedgerError):
    """Files of the state directory were deleted, moved or replaced; `watch` tells whether they are back."""

    def __init__(self, text: str, watch: StateWatch) -> None:
        super().__init__(text)
        self.watch = watch


class StateWatch:
    """Files and folders as they are when they are first seen.

    `exact`: each must stay the very same once it is there. `present`: must stay there, but its owner may replace it.
    A descriptor is kept of each exact one: the number of an inode in use is not given to another, and overlayfs may
    number a folder again that is not in use (https://docs.kernel.org/filesystems/overlayfs.html, "Inode properties").
    """

    def __init__(self, exact: Iterable[Path], present: Iterable[Path] = ()) -> None:
        self._exact = {path: _opened(path) for path in exact}
        self._present = [path for path in present if path.exists()]

    def close(self) -> None:
        """Give the descriptors back; nothing is watched any more."""
        for descriptor in self._exact.values():
            if descriptor is not None:
                os.close(descriptor)
        self._exact.clear()

    def look(self) -> None:
        """Raises StateMissing, which says what is not as it was, and what to do."""
        fault = self.fault()
        if fault:
            text = (
                f"{fault}, while it was in use: put it back as it was, or restart the daemon; its content is gone "
                "then, and messages that may have run before are declared (`message.maybe_duplicate`)"
            )
            raise StateMissing(text, self)

    def fault(self) -> str:
        """The change that was found; "" for none."""
        for path, known in self._exact.items():
            if known is None:
                self._exact[path] = _opened(path)
                continue
            try:
                same = os.path.samestat(path.stat(), os.fstat(known))
            except FileNotFoundError:
                return f"{path} was deleted or moved"
            except OSError as error:
                return f"{path} cannot be looked at ({error.strerror})"
            if not same:
                return f"{path} was replaced by another one"
        for path in self._present:
            if not path.exists():
                return f"{path} was deleted or moved"
        return ""


def _opened(path: Path) -> int | None:
    """A descriptor for nothing but its identity: to close one of another kind would drop SQLite's locks on the file."""
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
