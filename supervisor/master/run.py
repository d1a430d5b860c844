"""From a configuration to a running master, and to its exit status: directories, root given up, locks, loop.

Called by the command line in the process that becomes the master; it must have no thread and no child by then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from supervisor.config.schema import Config
from supervisor.errors import PreforkdError
from supervisor.master.control.systemd import take_notifier
from supervisor.master.exits.recovery import TITLE
from supervisor.master.host.log_relay import LogRelay
from supervisor.master.host.pidfile import PID_FILE, STATE_LOCK, LockFile, NameLock
from supervisor.master.host.privileges import account, become, prepare_directory
from supervisor.master.limits.hang_detector import STALE_S
from supervisor.master.loop import Master
from supervisor.master.startup import OnReady
from supervisor.master.stop.phases import CLEANUP_S
from supervisor.system import descriptors, posix
from supervisor.system.descent import shortcomings
from supervisor.system.stop_grace import stop_doubt


def run_daemon(
    config: Config,
    read_again: Callable[[], Config],
    on_ready: OnReady | None,
    on_failed: Callable[[str], None],
    stale_s: float = STALE_S,
) -> int:
    """Run the daemon until it is stopped. Returns its exit status (78: an operator must edit something; 1: all else).

    `read_again()` gives the configuration as it is now, for a reload, or raises ConfigError.
    `on_ready(held)` is called once every pool has its workers and consumes, or is held; `on_failed(reason)` when all
    are, after everything has been taken down again. Logging is configured by the caller. `stale_s`: how long a
    forkserver or consumer may stand still, in seconds.
    """
    try:
        failure, status = _serve(config, read_again, on_ready, stale_s)
    except PreforkdError as error:
        failure, status = str(error), error.exit_code
    except OSError as error:
        failure, status = f"the daemon cannot start: {error}; correct that, and check the limits of this user", 1
    if failure:
        on_failed(failure)
    return status


def _serve(
    config: Config, read_again: Callable[[], Config], on_ready: OnReady | None, stale_s: float
) -> tuple[str, int]:
    posix.set_title(TITLE)
    descriptors.raise_limit(os.environ)
    descriptors.require_at_start([pool.workers for pool in config.pools.values()])
    state_dir, runtime_dir = Path(config.daemon.state_dir), Path(config.daemon.runtime_dir)
    target = account(config.daemon)
    for directory in (state_dir, runtime_dir):
        prepare_directory(directory, target)
    if target is not None:
        become(target)
    posix.forbid_core_and_ptrace()  # it knows the broker's password, and so does the environment it was started with
    with (
        LockFile(state_dir / STATE_LOCK, f"the state directory {state_dir}"),
        NameLock(state_dir, f"the state directory {state_dir}"),
        LockFile(runtime_dir / PID_FILE, f"the runtime directory {runtime_dir}", remove=True),
    ):
        # fail-point: master.start-locked: both locks are held, nothing is read
        posix.become_subreaper()
        with closing(LogRelay(config.log)) as relay:
            doubt = stop_doubt(config.daemon.stop_timeout_s, CLEANUP_S, os.getpid(), os.environ, Path("/"))
            for text in (*shortcomings(), *filter(None, [doubt])):
                logging.getLogger(__name__).warning("%s", text)
            return Master(config, read_again, on_ready, stale_s, take_notifier(os.environ), relay).run()
