"""Missing features of the kernel or container that guarantees depend on; `check` and the daemon's start report them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from supervisor.system import descent, posix


def shortcomings() -> Iterator[str]:
    """One sentence for each missing feature; none on an ordinary Linux."""
    if posix.start_ticks(os.getpid()) is None:
        yield (
            "/proc cannot be read: what user code leaves behind is not ended, so a message may run again beside it; "
            "mount /proc for this process"
        )
    elif not posix.lists_children():
        yield (
            "this kernel has no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN): what user code leaves behind is "
            "looked for in all of /proc, which takes longer with each process on the machine"
        )
    if not descent.possible():
        yield (
            "a limit RLIMIT_RTTIME is set, by which descendants of workers would be known: "
            f"{_untold()}; start preforkd without that limit"
        )


def _untold() -> str:
    if os.getpid() == 1:
        return "as pid 1 it ends nothing that user code leaves behind, so a message may run again beside it"
    return "every process that the kernel hands to the master counts as left behind by user code and is ended"
