"""What every worker would do for itself, done once in the forkserver: workers share the pages that come of it.

Nothing here may open a descriptor or start a thread. What it is worth: benchmarks.bench --only footprint.
"""

from __future__ import annotations

import sys

import msgspec

from supervisor.link.frames import ConsumerFrame
from supervisor.system import posix
from supervisor.worker import runners

_EMPTY_BYTES = sys.getsizeof(b"")
_POOLED_BYTES = range(48, 513, 16)
"""The sizes of objects that CPython keeps in pools of their own, as far as `bytes` comes in them."""

_GAPS_BYTES = 8 * 1024


def prepare() -> None:
    """Run by the forkserver, once the handler is imported, before it freezes what is in memory."""
    runners.prepare()
    posix.boot_id()  # which goes into every slot
    msgspec.msgpack.Decoder(ConsumerFrame)  # msgspec keeps with the frames what it finds out about them


def fill_gaps() -> list[bytes]:
    """Fill what imports have left free in Python's pools; to be kept as long as workers are forked.

    What a worker makes for itself then lies side by side on new pages. It would take the gaps otherwise, one on this
    shared page and one on that, and have each of those pages for itself: 0.2 MiB more.
    """
    return [bytes(size - _EMPTY_BYTES) for size in _POOLED_BYTES for _ in range(_GAPS_BYTES // size)]
