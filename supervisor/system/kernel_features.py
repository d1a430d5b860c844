"""Missing features of the kernel or container that guarantees depend on; `check` and the daemon's start report them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from supervisor.system import descent, posix


def shortcomings() -> Iterator[str]:
    """One sentence for each missing feature; none on an ordinary Linux."""
    if posix.start_ticks(os.getpid()) is None:
        yield (
            "/proc cannot be read: processes left by user code are not ended, so a message may run again beside them; "
            "mount /proc for this process"
        )
    elif not posix.lists_children():
        yield (
            "this kernel has no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN): processes left by user code are "
            "looked for in all of /proc, which takes longer with each process on the machine"
        )
    if not descent.possible():
        yield (
            "a limit RLIMIT_RTTIME is set, by which descendants of workers are recognised: "
            f"{_untold()}; start preforkd without that limit"
        )


def _untold() -> str:
    if os.getpid() == 1:
        return "as pid 1 it ends no process that user code leaves behind, so a message may run again beside it"
    return "every orphan that the kernel hands to the master is taken for one of user code and is ended"
