"""preforkd as footprint and growth run it: as its users have it, on RabbitMQ, everything at its default but what a
section says. Its processes and its queues are gone at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench.peers import APPS, PEERS, PREFORKD
from tests.support.daemon import cleaned_up
from tests.support.rabbit_daemon import RabbitDaemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

_START_S = 120.0
POOL = "email"


class BenchDaemon(RabbitDaemon):
    """Handlers are found in apps/, libraries in the peers' environment: the same files for all contestants."""

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration; `path` as above."""
        super().configure(settings, daemon)
        (packages,) = (PEERS / "lib").glob("python*/site-packages")
        lines = self.config_path.read_text().splitlines()
        path = f'path = ["{APPS}", "{packages}"]'
        self.config_path.write_text("\n".join(path if line.startswith("path = ") else line for line in lines) + "\n")

    @property
    def pid(self) -> int:
        """The master's."""
        assert self.process is not None
        return self.process.pid


@contextmanager
def preforkd(folder: Path, node: RabbitNode, pool: str, handler: str, **more: Any) -> Iterator[BenchDaemon]:
    """A daemon, not started yet, with the handler `footprint_handler.HANDLER`.

    `pool`: lines of its table; `more`: as in RabbitDaemon.
    """
    folder.mkdir()
    options = {
        "module": "footprint_handler",
        "handler": handler,
        "log": "info",
        "broker": "",
        "program": PREFORKD,
        **more,
    }
    daemon = BenchDaemon(folder, node, pool, **options)
    try:
        with cleaned_up(daemon, start=False):
            yield daemon
    finally:
        daemon.forget_queues()


def begin(daemon: BenchDaemon) -> None:
    """Start it; returns when everything is ready, without asking it again and again."""
    daemon.start(ready=False)
    eventually(lambda: _has_begun(daemon), "the daemon is ready", _START_S)


def _has_begun(daemon: BenchDaemon) -> bool:
    """Raises AssertionError if it has ended: a mistake in its configuration, for example."""
    process = daemon.process
    assert process is not None and process.poll() is None, f"the daemon has ended; see {daemon.log_path}"
    return b'"daemon.ready"' in daemon.log_path.read_bytes()


def pause_for(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)
