"""Makes commits durable: fdatasync of the ledger's log, one at a time, while the consumer goes on with its work.

Whatever the disk does, heartbeats go on. It knows nothing but a descriptor and the number of the last commit. The
kernel does it by itself (`kernel_aio.py`); where it may not, as in a sandbox without io_submit(2), a thread waits for
the disk: the same, but each commit pays for two hand-overs of the interpreter.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from supervisor.ledger.kernel_aio import KernelSync

_SWITCH_S = 0.000_1
"""How long a thread waits for the interpreter at most once the disk is done; Python's 5 ms would delay all acks."""


class Sync(Protocol):
    """fdatasync of one descriptor, begun now, ended later."""

    def fileno(self) -> int:
        """Readable once it has ended."""

    def begin(self) -> None:
        """Begin; the former one has ended. Raises OSError."""

    def ended(self) -> bool:
        """Whether it has ended; asked until it has. Never blocks. Raises OSError when it failed."""

    def close(self) -> None:
        """Give everything back; waits for the sync under way."""


class ThreadSync:
    """As `KernelSync`, by a thread of our own. Until `close` it sets how fast all threads of the process take turns.

    Raises OSError: no descriptors are left, or a sync failed.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._error: OSError | None = None
        self._ended = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._hear, self._ask = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(self._ended)
            raise
        self._former_switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self._thread = threading.Thread(target=self._run, name="ledger sync", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._ended

    def begin(self) -> None:
        os.write(self._ask, b"s")

    def ended(self) -> bool:
        try:
            os.eventfd_read(self._ended)
        except BlockingIOError:
            return False
        if self._error is not None:
            raise self._error
        return True

    def close(self) -> None:
        os.close(self._ask)
        self._thread.join()
        sys.setswitchinterval(self._former_switch_s)
        for descriptor in (self._hear, self._ended):
            os.close(descriptor)

    def _run(self) -> None:
        while os.read(self._hear, 1):
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._error = error
            os.eventfd_write(self._ended, 1)


def begin_syncing(file: int) -> Sync:
    """The best there is for this descriptor, `file`."""
    try:
        return KernelSync(file)
    except OSError:  # not offered, forbidden, or the system's share (fs.aio-max-nr) is used up
        return ThreadSync(file)


class Syncer:
    """Syncs the file at `path`, which stays open; `durable` is the last commit that is on disk, as of the last `look`.

    `error`: why a sync failed. After that nothing is durable any more, whatever a later sync would say: the kernel
    forgets what it could not write (fsync(2), errors). Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.durable = 0
        self.error: OSError | None = None
        self._wanted = 0
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sync = begin_syncing(self._file)
        except OSError:
            os.close(self._file)
            raise

    def fileno(self) -> int:
        """Readable when there is news: `look` then."""
        return self._sync.fileno()

    def sync(self, commit: int) -> None:
        """Make everything up to this `commit` durable, soon. Not before the former one is durable."""
        self._wanted = commit
        try:
            self._sync.begin()
        except OSError as error:
            self.error = error

    def look(self) -> None:
        """Learn whether the sync under way has ended. Never blocks."""
        if self.durable < self._wanted and self.error is None:
            try:
                if self._sync.ended():
                    self.durable = self._wanted
            except OSError as error:
                self.error = error

    def wait(self) -> None:
        """Come back when what was asked for is durable, or never will be."""
        news = select.poll()
        news.register(self, select.POLLIN)
        while self.durable < self._wanted and self.error is None:
            news.poll()
            self.look()

    def close(self) -> None:
        """Finish the sync under way."""
        self._sync.close()
        with suppress(OSError):  # nothing was written through it
            os.close(self._file)
