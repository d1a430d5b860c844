"""preforkd's side of the footprint. The pool's `path` ends with the peers' packages: the same `requests` for all."""

from __future__ import annotations

from footprint_work import work


def run(message):
    """One message."""
    work(message.id)


def nothing(message):
    """For the crowd, and for what a message costs: no work at all."""
