"""gunicorn's configuration: sync workers, and a word from each when it enters its loop."""

from __future__ import annotations

import os

from stamp import stamp

bind = f"unix:{os.environ['BENCH_SOCKET']}"
workers = int(os.environ["BENCH_WORKERS"])
worker_class = "sync"
preload_app = os.environ["BENCH_PRELOAD"] == "yes"


def post_worker_init(worker):
    """The last thing before a worker's loop: application loaded, signals set up."""
    stamp("ready")
