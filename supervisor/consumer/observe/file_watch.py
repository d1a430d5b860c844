"""Notices deleted, moved or replaced files of a pool, and a ledger that is not the one last in use.

Runs in the consumer process, which looks once a second: the kernel does not report this. An open file works on without
its name, so there is no error until the next process opens a new one in its place. Then the old file's content is lost,
and nothing reports it. A ledger that was replaced lacks outcomes. For as long as it would have kept them, a message
that it does not know is run as a possible repetition.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec

from supervisor.consumer.observe.health import Health
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.errors import LedgerError
from supervisor.ledger import witness
from supervisor.ledger.base import Ledger
from supervisor.link.frames import StartConsumer
from supervisor.logs.events import Event

_DOUBT = (
    "messages that were done may run once more, and each one that the ledger does not know is declared "
    "(`message.maybe_duplicate`) for ledger.keep from then on"
)


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


class StateGuard:
    """The files of one pool. Made once its ledger is open; raises LedgerError."""

    def __init__(self, start: StartConsumer, ledger: Ledger, settlement: Settlement, health: Health) -> None:
        pool_dir, state_dir = Path(start.pool_dir), Path(start.state_dir)
        whose = blake2b(str(state_dir).encode(), digest_size=4).hexdigest()
        self._lasting = pool_dir.with_name(f"{pool_dir.name}.ledger")
        self._until_boot = Path(start.link_path).with_name(f"{start.pool.name}.{whose}.ledger")
        self._ledger = ledger
        self._settlement = settlement
        self._health = health
        self._queue_file = state_dir / "embedded.db" if start.broker.embedded else None
        self._compare(start.ledger.keep_s)
        self._noted = self._mark
        witness.note((self._lasting, self._until_boot), self._noted)
        exact = [state_dir, state_dir / "lock", pool_dir, pool_dir / "slots"]
        exact += [*ledger.files, *([self._queue_file] if self._queue_file else [])]
        self.watch = StateWatch(exact, (pool_dir / "slots").glob("*.slot"))

    def look(self) -> None:
        """Note how far the ledger has come. Raises StateMissing when the files are not what they were."""
        self.watch.look()
        if self._noted != (mark := self._mark):
            self._noted = mark
            witness.note((self._until_boot,), mark)
        self._declare_doubt()

    def close(self) -> None:
        """Note how far the ledger has come in the end. Missing files stay watched, for the error's holder."""
        if not self.watch.fault():
            witness.note((self._lasting, self._until_boot), self._mark)
            self.watch.close()

    @property
    def _mark(self) -> witness.Mark:
        return msgspec.structs.replace(self._ledger.mark, embedded=self._queue_file is not None)

    def _compare(self, keep_s: float) -> None:
        noted = witness.notes((self._until_boot, self._lasting))
        if self._queue_file is not None and any(mark.embedded for mark in noted) and not self._queue_file.exists():
            self._health.notice(
                Event.STATE_MISSING,
                f"{self._queue_file} was there when this pool was last in use, and is gone: its queues begin empty, "
                "the messages that were in them are lost; stop the daemon and put the file back if there is a copy",
            )
        fault = witness.behind(self._ledger.found, noted)
        if fault:
            self._ledger.doubt(self._ledger.now_s + keep_s)
        self._declare_doubt(fault or "it was set back, or is a new one, since a former start")

    def _declare_doubt(self, why: str = "") -> None:
        doubtful = self._ledger.doubtful
        if doubtful and why:
            self._health.notice(Event.LEDGER_BEHIND, f"the ledger has forgotten: {why}; {_DOUBT}")
        elif not doubtful:
            self._health.heal(Event.LEDGER_BEHIND)
        self._settlement.doubtful = doubtful
