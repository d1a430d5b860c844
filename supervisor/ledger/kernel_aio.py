"""fdatasync(2) that is begun now and ends later: Linux's asynchronous I/O, without a thread (io_submit(2), FDSYNC).

Runs in the consumer. The kernel tells the end by an eventfd, so the disk is one more descriptor of the loop; a thread
would have to be woken, and would want the interpreter's lock back. glibc has no wrappers: numbers and structures are
those of <linux/aio_abi.h> and the syscall tables. FDSYNC is there since Linux 4.18.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select


def numbers(machine: str, pointer_bytes: int) -> tuple[int, int, int, int]:
    """Those of io_setup, io_destroy, io_getevents and io_submit; -1, which the kernel has not, where we do not know
    them. A 32-bit program has others, and is told the machine of its 64-bit kernel."""
    known = {
        ("x86_64", 8): (206, 207, 208, 209),
        ("aarch64", 8): (0, 1, 4, 2),
    }
    return known.get((machine, pointer_bytes), (-1, -1, -1, -1))


_SETUP, _DESTROY, _GETEVENTS, _SUBMIT = numbers(platform.machine(), ctypes.sizeof(ctypes.c_void_p))

_FDSYNC = 3  # IOCB_CMD_FDSYNC
_FLAG_RESFD = 1  # IOCB_FLAG_RESFD: add to an eventfd at the end

_libc = ctypes.CDLL(None, use_errno=True)


class _Iocb(ctypes.Structure):
    """struct iocb, little-endian."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _IoEvent(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("iocb", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class KernelSync:
    """fdatasync of one descriptor, one at a time. Raises OSError where there is none for us (ENOSYS, EPERM, EAGAIN)."""

    def __init__(self, file: int) -> None:
        self._context = ctypes.c_ulong(0)
        _call(_SETUP, ctypes.c_uint(1), ctypes.byref(self._context))
        try:
            self._ended = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            _call(_DESTROY, self._context)
            raise
        self._request = _Iocb(opcode=_FDSYNC, file=file, flags=_FLAG_RESFD, eventfd=self._ended)
        self._requests = (ctypes.c_void_p * 1)(ctypes.addressof(self._request))
        self._event = _IoEvent()
        self._news = select.poll()
        self._news.register(self._ended, select.POLLIN)

    def fileno(self) -> int:
        """Readable once the sync has ended."""
        return self._ended

    def begin(self) -> None:
        """Begin; the former one has ended. Raises OSError."""
        _call(_SUBMIT, self._context, ctypes.c_long(1), self._requests)

    def ended(self) -> bool:
        """Whether it has ended. Never blocks. Raises OSError when it failed.

        The kernel tells the eventfd last: asked in another order, the result might be taken before the telling, which
        would then wake the loop for nothing until the next sync.
        """
        if not self._news.poll(0):  # most often not: an error of eventfd_read would cost four times as much
            return False
        os.eventfd_read(self._ended)
        _call(_GETEVENTS, self._context, ctypes.c_long(1), ctypes.c_long(1), ctypes.byref(self._event), None)
        if self._event.result < 0:
            raise OSError(-self._event.result, os.strerror(-self._event.result))
        return True

    def close(self) -> None:
        """Give everything back; waits for the sync under way."""
        _call(_DESTROY, self._context)
        os.close(self._ended)
