"""Exit codes of the command line that several commands share (docs/operations.md)."""

from __future__ import annotations

POOL_HELD = 150
"""The daemon runs, but a pool is held: the first of the statuses that LSB 5.0 leaves to applications."""
