"""The file to which faulthandler writes stacks: at a crash and on SIGQUIT. Forkservers and workers.

Set up again after user code has run: it may have changed faulthandler or the handler of SIGQUIT.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` calls, before it makes enums
import faulthandler
import signal

_SIGQUIT = int(signal.SIGQUIT)


def dump_on_sigquit(file: int) -> None:
    """Let SIGQUIT write all stacks to the descriptor `file`; no system call if it does already."""
    faulthandler.cancel_dump_traceback_later()
    if _signal.getsignal(_SIGQUIT) is not _signal.SIG_DFL:
        _signal.signal(_SIGQUIT, _signal.SIG_DFL)
        faulthandler.unregister(_SIGQUIT)
    faulthandler.register(_SIGQUIT, file=file, all_threads=True, chain=False)


def dump_on_faults(file: int) -> None:
    """Let a crash and SIGQUIT write all stacks to the descriptor `file`."""
    faulthandler.enable(file=file, all_threads=True)
    dump_on_sigquit(file)
