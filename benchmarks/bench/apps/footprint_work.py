"""What every program runs for the footprint: it has imported something real, uses it, and leaves a word of each run."""

from __future__ import annotations

import os
import time

import requests

_TAKES_S = 0.01


def work(name: str) -> None:
    """One message: a request is made ready, not sent."""
    requests.Request("GET", "https://example.org/", params={"name": name}).prepare()
    time.sleep(_TAKES_S)
    file = os.open(os.environ["BENCH_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, b"%d\n" % os.getpid())
    os.close(file)
