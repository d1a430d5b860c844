"""How many descriptors a process has open: a test of what gives everything back counts them before and after."""

from __future__ import annotations

import os
from pathlib import Path


def descriptors(pid: int | None = None) -> int:
    """Those of a process; of this one when none is named."""
    return len(list(Path(f"/proc/{pid or os.getpid()}/fd").iterdir()))
