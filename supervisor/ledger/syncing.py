"""Makes commits durable: fdatasync of the ledger's log, one at a time, while the consumer goes on with its work.

Whatever the disk does, heartbeats go on. The kernel does it by itself (`kernel_aio.py`); where it may not, as in a
sandbox without io_submit(2), a thread waits for the disk: the same, but each commit pays for two hand-overs of the
interpreter. After an error nothing is durable any more, whatever a later sync would say: the kernel forgets what it
could not write (fsync(2), errors).
"""

from __future__ import annotations

import os
import sys
import threading

from supervisor.ledger.kernel_aio import KernelSync

_SWITCH_S = 0.000_1
"""How long a thread waits for the interpreter at most once the disk is done; Python's 5 ms would delay all acks."""


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


Sync = KernelSync | ThreadSync


def begin_syncing(file: int) -> Sync:
    """The best there is for this descriptor, `file`. Raises OSError: no descriptors are left."""
    try:
        return KernelSync(file)
    except OSError:  # not offered, forbidden, or the system's share (fs.aio-max-nr) is used up
        return ThreadSync(file)
