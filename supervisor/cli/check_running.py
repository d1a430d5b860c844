"""What `check` says of a daemon that runs now: changes in [daemon] that its next reload would refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from supervisor.cli.finding import Finding, Level
from supervisor.config.schema import Config
from supervisor.control.client import ControlClient, NotRunning
from supervisor.errors import ControlError
from supervisor.master.host.pidfile import STATE_LOCK, find_holder
from supervisor.master.host.privileges import Account
from supervisor.system import posix

_REFUSED = "a reload is refused; `preforkd restart` applies it"


def about_running(config: Config, target: Account | None) -> Iterator[Finding]:
    """Findings about the daemon of this configuration, none where none runs. `target`: the configured user."""
    try:
        with ControlClient(Path(config.daemon.runtime_dir)) as daemon:
            status = daemon.status()
    except NotRunning:
        holder = find_holder(Path(config.daemon.state_dir, STATE_LOCK))
        if holder is not None:
            text = f"the running daemon (pid {holder.pid}) does not listen in {config.daemon.runtime_dir}: {_REFUSED}"
            yield Finding(Level.WARNING, "daemon.runtime_dir", text)
        return
    except ControlError:  # it is of another user, or does not answer: nothing is known of it
        return
    if status.state_dir != config.daemon.state_dir:
        text = f"the running daemon (pid {status.pid}) has {status.state_dir}: {_REFUSED}"
        yield Finding(Level.WARNING, "daemon.state_dir", text)
    uid = posix.real_uid(status.pid)
    if target is not None and uid not in (None, target.uid):
        text = f"the running daemon (pid {status.pid}) is of uid {uid}, not of uid {target.uid}: {_REFUSED}"
        yield Finding(Level.WARNING, "daemon.user", text)
