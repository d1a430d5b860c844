"""The ready-made handlers, under a name that nothing hides: `supervisor.workers.log` is the file `workers/log.py`."""

from __future__ import annotations

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent.parent / "workers")]
