"""What a scrape of a daemon with 1,000 idle workers costs: how long it takes, and processor time of all who take part.

The whole way: connection to the control socket, status object of the master, its decoding and the exposition. Run it
on a quiet machine: `python -m benchmarks.scrape [WORKERS]`. Aims: under 200 ms, and under 1 % of a core at a scrape
every 15 s. The web page adds one HTTP response to it.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from statistics import median

from benchmarks.bench.processes import cpu_us
from supervisor.control.client import ControlClient
from supervisor.metrics import render
from supervisor.system.clock import monotonic_s
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

WORKERS, SCRAPES, WARM_UP, INTERVAL_S = 1000, 20, 3, 15.0
_START_S = 120.0


def main() -> None:
    """Print the figures."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else WORKERS
    settings = f'workers = {workers}\nprefetch = {workers}\ntimeout = "1s"'
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), settings, start=False) as target:
        target.start(ready=False)
        ready = b'"daemon.ready"'
        eventually(lambda: ready in target.log_path.read_bytes(), f"{workers} workers are ready", _START_S)
        _measure(target, workers)


def _measure(target: Daemon, workers: int) -> None:
    assert target.process is not None
    pid, never = target.process.pid, threading.Event()
    times_ms, master_ms, reader_ms, size = [], [], [], 0
    for number in range(WARM_UP + SCRAPES):
        never.wait(0.2)
        (before, own_before), started_s = _spent_ms(pid), monotonic_s()
        size = _scrape(target.runtime_dir)
        took_ms, (after, own_after) = (monotonic_s() - started_s) * 1e3, _spent_ms(pid)
        if number >= WARM_UP:
            times_ms.append(took_ms)
            master_ms.append(after - before)
            reader_ms.append(own_after - own_before)
    per_cent = (median(master_ms) + median(reader_ms)) / (INTERVAL_S * 1e3) * 100
    print(
        f"scrape of {workers:,} workers, {size / 1024:.0f} KiB: {median(times_ms):.1f} ms, max {max(times_ms):.1f} ms"
    )
    print(f"processor time: master {median(master_ms):.1f} ms, reader {median(reader_ms):.1f} ms")
    print(f"every {INTERVAL_S:g} s: {per_cent:.2f} % of a core")


def _scrape(runtime_dir: Path) -> int:
    """One, as the web page and `preforkd metrics` do it; the bytes of its text."""
    with ControlClient(runtime_dir) as client:
        return len(render(client.ask("status")))


def _spent_ms(pid: int) -> tuple[float, float]:
    """Processor time of the master and of this process, until now."""
    own = threading.get_native_id()
    spent = cpu_us([pid, own])
    return spent[pid] / 1e3, spent[own] / 1e3


if __name__ == "__main__":
    main()
