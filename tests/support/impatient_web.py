"""`python -P -m tests.support.impatient_web FD`: the web child with limits that a test can wait for."""

from __future__ import annotations

from supervisor.web import connections, request_parsing
from supervisor.web.__main__ import main

TIMEOUT_S = 0.5

if __name__ == "__main__":
    request_parsing.BODY_S = connections.IDLE_S = connections.STALLED_S = TIMEOUT_S
    main()
