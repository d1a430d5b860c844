"""`python -m tests.support.impatient_daemon CONFIG SECONDS`: a daemon whose hang detector waits only so long."""

from __future__ import annotations

import sys

from supervisor.config.load import load
from supervisor.logs import structured
from supervisor.master.run import run_daemon

if __name__ == "__main__":
    config = load(sys.argv[1])
    structured.configure(config.log, "master")
    sys.exit(run_daemon(config, lambda: load(config.source), None, print, float(sys.argv[2])))
