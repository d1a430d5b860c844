"""Whether the files that a pool lives by are still where they were: nobody tells when somebody deletes or moves them.

Runs in the consumer process, which looks once a second. An open file works on without its name, so all goes well until
the next process opens a new one in its place: then what only the old one knew is lost, and nothing says so.
"""

from __future__ import annotations

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
    """

    def __init__(self, exact: Iterable[Path], present: Iterable[Path] = ()) -> None:
        self._exact = {path: _identity(path) for path in exact}
        self._present = [path for path in present if _identity(path) is not None]

    def look(self) -> None:
        """Raises StateMissing, which says what is not as it was, and what to do."""
        fault = self.fault()
        if fault:
            text = (
                f"{fault}, while it was in use: put it back as it was, or restart the daemon; what it lived by is gone "
                "then, and messages that may have run before are declared (`message.maybe_duplicate`)"
            )
            raise StateMissing(text, self)

    def fault(self) -> str:
        """What is not as it was; "" when all is."""
        for path, known in self._exact.items():
            if known is None:
                self._exact[path] = _identity(path)
                continue
            try:
                found = _identified(path)
            except FileNotFoundError:
                return f"{path} was deleted or moved"
            except OSError as error:
                return f"{path} cannot be looked at ({error.strerror})"
            if found != known:
                return f"{path} was replaced by another one"
        for path in self._present:
            if not path.exists():
                return f"{path} was deleted or moved"
        return ""


def _identified(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return _identified(path)
    except OSError:
        return None
