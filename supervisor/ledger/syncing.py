"""Makes commits durable: fdatasync of the ledger's log, one at a time. A slow disk is waited for in a thread.

The only thread of the consumer that is ours: whatever the disk does, heartbeats go on. It knows nothing but a
descriptor and the number of the last commit. While the disk is quick it is not used: to be woken and to wake costs more
than such a sync.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from supervisor.clock import monotonic_s

QUICK_S = 0.001
"""A disk whose syncs lately took less than this, in seconds, is waited for on the spot."""
_FORGETTING = 0.8


class Syncer:
    """Syncs the file at `path`, which stays open; `durable` is the last commit that is on disk.

    `wake` is called in the thread, each time there is news. `error`: why a sync failed. After that nothing is durable
    any more, whatever a later sync would say: the kernel forgets what it could not write (fsync(2), errors).
    """

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        self.durable = 0
        self.error: OSError | None = None
        self._wake = wake
        self._wanted = 0
        self._recent_s = 0.0
        self._news = threading.Event()
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._hear, self._ask = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="ledger sync", daemon=True)
        self._thread.start()

    def sync(self, commit: int) -> None:
        """Make everything up to this commit durable, now or soon. Not before the former one is durable."""
        self._wanted = commit
        if self._recent_s < QUICK_S:
            self._sync()
        else:
            os.write(self._ask, b"s")

    def wait(self) -> None:
        """Come back when what was asked for is durable, or never will be."""
        while self.durable < self._wanted and self.error is None:
            self._news.wait()
            self._news.clear()

    def close(self) -> None:
        """Finish the sync under way, and end the thread."""
        os.close(self._ask)
        self._thread.join()
        for descriptor in (self._hear, self._file):
            os.close(descriptor)

    def _sync(self) -> None:
        wanted, begun_s = self._wanted, monotonic_s()
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self.error = error
        else:
            self.durable = wanted
        self._recent_s = _FORGETTING * self._recent_s + (1 - _FORGETTING) * (monotonic_s() - begun_s)

    def _run(self) -> None:
        while os.read(self._hear, 1):
            self._sync()
            self._news.set()
            self._wake()
