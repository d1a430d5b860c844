"""On which machine, with which versions: without that a figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.bench.pairs import percentile
from benchmarks.bench.peers import ROOT, versions
from supervisor.system.clock import monotonic_s

COMPARED = ("celery", "circus", "dramatiq", "gunicorn", "requests", "supervisor")
"""Of the peers' environment, what a reader needs to know; the rest is in requirements-peers.txt."""

_SYNCS = 200
_PAGE = bytes(4096)
_RABBITMQ = Path("/usr/lib/rabbitmq/lib")


def facts(folder: Path) -> dict[str, str | int | float]:
    """Everything worth knowing about this run; `folder` is on the disk that is used."""
    return {
        "cpu": _value("/proc/cpuinfo", "model name"),
        "processors": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rabbitmq": rabbitmq_version(),
        "preforkd": _commit(),
        "pika": version("pika"),
        "peers": ", ".join(f"{name} {number}" for name, number in versions().items() if name in COMPARED),
        "fdatasync_p50_us": round(fdatasync_p50_us(folder)),
        "load_average": os.getloadavg()[0],
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def fdatasync_p50_us(folder: Path, times: int = _SYNCS) -> float:
    """How long it takes to make one appended page durable, in the middle of so many."""
    path = folder / "fdatasync"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return percentile([_sync_us(file) for _ in range(times)], 50)
    finally:
        os.close(file)
        path.unlink()


def _sync_us(file: int) -> float:
    os.write(file, _PAGE)
    started_s = monotonic_s()
    os.fdatasync(file)
    return (monotonic_s() - started_s) * 1e6


def rabbitmq_version() -> str:
    """Of the server that is installed here."""
    places = sorted(_RABBITMQ.glob("rabbitmq_server-*"))
    return places[-1].name.removeprefix("rabbitmq_server-") if places else "not installed"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "not a git checkout"


def _value(path: str, key: str) -> str:
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "unknown")
