"""What every worker would do for itself, done once in the forkserver: workers share the pages that come of it.

Nothing here may open a descriptor or start a thread. What it is worth: benchmarks.bench --only footprint.
"""

from __future__ import annotations

import msgspec

from supervisor import posix
from supervisor.link.frames import ConsumerFrame
from supervisor.worker import runners


def prepare() -> None:
    """Run by the forkserver, once the handler is imported, before it freezes what is in memory."""
    runners.prepare()
    posix.boot_id()  # which goes into every slot
    msgspec.msgpack.Decoder(ConsumerFrame)  # msgspec keeps with the frames what it finds out about them
