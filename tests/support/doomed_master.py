"""A master of its own process, for tests that kill it: starts one forkserver and one worker, prints their pids, waits.

`python -m tests.support.doomed_master START NOTIFY ERRORS`: START is a StartForkserver as JSON (its master_pid is
filled in here), NOTIFY an inherited descriptor, ERRORS a file. It ends with its standard input, or when it is killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from supervisor.link.frames import Fork, Forked, Imported, StartForkserver
from supervisor.scoreboard.slot import Slot
from supervisor.system import posix
from tests.support.pools import spawn_forkserver


def main(start_json: str, notification: str, errors: str) -> None:
    start = msgspec.json.decode(start_json, type=StartForkserver)
    start = msgspec.structs.replace(start, master_pid=os.getpid())
    posix.become_subreaper()
    forkserver, inbox = spawn_forkserver(start, int(notification), Path(errors))
    inbox.expect(Imported)
    Slot(Path(start.pool_dir) / "slots" / "0.slot")  # made by the master, always
    inbox.send(Fork(0, 1))
    sys.stdout.write(f"{forkserver.pid} {inbox.expect(Forked).pid}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
