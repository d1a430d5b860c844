"""How long the marks of one message take in its worker: mark_running and mark_outcome together, best of several rounds.

Run it on a quiet machine: `python benchmarks/slot_marks.py`. The aim is under 12 microseconds in CPython.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from supervisor.link.frames import RunId
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import LimitSource, OutcomeKind
from supervisor.system import posix

_ROUNDS, _MARKS = 20, 5_000


def _round_us(slot: Slot) -> float:
    run, message_id = RunId(bytes(range(24)), 1, 1), "0f8fad5b-d9cb-469f-a165-70867728950e"
    start_s = time.perf_counter()
    for _ in range(_MARKS):
        slot.mark_running(run, message_id, 1.7e9, 1.0, 31.0, LimitSource.POOL)
        slot.advance_tail(slot.mark_outcome(OutcomeKind.DONE, None, 0.001, "") + 1)
    return (time.perf_counter() - start_s) / _MARKS * 1e6


def main() -> None:
    """Print the figure."""
    with tempfile.TemporaryDirectory() as folder:
        slot = Slot(Path(folder) / "0.slot")
        slot.take(os.getpid(), posix.start_ticks(os.getpid()) or 0, 1)
        print(f"marks of one message: {min(_round_us(slot) for _ in range(_ROUNDS)):.2f} us (with the tail's advance)")


if __name__ == "__main__":
    main()
