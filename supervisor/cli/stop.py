"""`preforkd stop` and `preforkd restart`: end the daemon, wait until it is gone, and show its drain report.

Stopping what does not run succeeds, as LSB 5.0 asks of init scripts. A pid is signalled only when the kernel says that
it holds the daemon's lock, never because a file names it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import click

from supervisor.cli.command import command
from supervisor.cli.console import print_line
from supervisor.cli.invocation import SECONDS, Invocation, pass_invocation
from supervisor.cli.start import START_TIMEOUT_S, start
from supervisor.control.client import ControlClient, NotRunning
from supervisor.control.protocol import typed
from supervisor.control.results import DrainReport
from supervisor.errors import ControlError
from supervisor.extras import refuse_missing
from supervisor.master.host.privileges import account
from supervisor.quantities import show_seconds
from supervisor.system import posix

_MARGIN_S = 30.0
"""Beyond `stop_timeout` a daemon kills what is left; after this long on top of it something is wrong."""


@command(
    "stop",
    ("Let running handlers finish", "preforkd stop"),
    ("Let them run for 10 seconds more at most", "preforkd stop --timeout 10s"),
    ("Do not wait for them", "preforkd stop --now"),
)
@click.option("--now", is_flag=True, help="Kill running handlers; on_crash decides about their messages.")
@click.option(
    "--timeout", "timeout_s", type=SECONDS, help="Let handlers run at most this long, instead of stop_timeout."
)
@pass_invocation
def stop_command(invocation: Invocation, now: bool, timeout_s: float | None) -> int:
    """Stop the daemon, and wait for its end.

    Exit code 0 also if no daemon runs.
    """
    if not stop(invocation, now, timeout_s):
        print_line(f"preforkd is not running (nothing in {invocation.runtime_dir})")
    return 0


@command(
    "restart",
    ("Let running handlers finish, then start", "preforkd restart"),
)
@click.option("--now", is_flag=True, help="Kill running handlers; on_crash decides about their messages.")
@pass_invocation
def restart_command(invocation: Invocation, now: bool) -> int:
    """Stop the daemon if one runs, then start one.

    A bad configuration stops nothing.
    """
    refuse_missing(invocation.config)
    stop(invocation, now, None)
    return start(invocation, START_TIMEOUT_S)


def stop(invocation: Invocation, now: bool, timeout_s: float | None) -> bool:
    """Stop the daemon and print its drain report; False when none runs. Raises ControlError when it does not end."""
    limit_s = (invocation.daemon("stop_timeout").stop_timeout_s if timeout_s is None else timeout_s) + _MARGIN_S
    try:
        with invocation.connect() as daemon:
            pid = daemon.ask("stop", now=now, timeout_s=timeout_s, wait=True)["pid"]
            with ProcessEnd(pid) as end:
                report = _drain_report(daemon, limit_s)
                end.wait(_MARGIN_S)
    except NotRunning:
        return _stop_by_signal(invocation, limit_s)
    _print_report(pid, report)
    return True


class ProcessEnd:
    """The end of a process, watched through a pidfd: a later process with the same pid is never mistaken for it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._descriptor = -1

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended. Raises ControlError when it still runs after `timeout_s` seconds."""
        if self._descriptor >= 0 and not posix.readable(self._descriptor, timeout_s):
            raise ControlError(
                f"pid {self._pid} still runs; `preforkd status` and its log show what it waits for, "
                f"`preforkd stop --now` does not wait"
            )

    def __enter__(self) -> ProcessEnd:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _drain_report(daemon: ControlClient, limit_s: float) -> DrainReport | None:
    """The drain report; None when the daemon ended without one (killed meanwhile)."""
    with suppress(ControlError):
        return typed(daemon.next_answer(limit_s), DrainReport)
    return None


def _stop_by_signal(invocation: Invocation, limit_s: float) -> bool:
    """Stop a daemon that has no control socket: one that is still starting, or whose socket was removed."""
    target = account(invocation.daemon("user", "group"))
    holder = invocation.holder(target.uid if target else None)
    if holder is None:
        return False
    with ProcessEnd(holder.pid) as end:
        delivery = posix.signal_process(holder.pid, holder.start_ticks, signal.SIGTERM)
        if delivery is posix.Delivery.REFUSED:
            raise ControlError(f"pid {holder.pid} cannot be signalled by this user: stop it as the user it runs as")
        if delivery is posix.Delivery.GONE:
            return False
        end.wait(limit_s)
    print_line(f"stopped pid {holder.pid} (by SIGTERM: it had no control socket in {invocation.runtime_dir})")
    return True


def _print_report(pid: int, report: DrainReport | None) -> None:
    if report is None:
        print_line(f"pid {pid} has ended, without a drain report; see its log and `preforkd exits`")
        return
    forced = ", by force" if report.forced else ""
    print_line(f"stopped pid {pid} in {show_seconds(report.took_s)}{forced}")
    for name, pool in report.pools.items():
        counts = f"{pool.finished} finished, {pool.returned} returned unstarted, {len(pool.cut_off)} cut off"
        print_line(f"  pool {name}: {counts}")
        for message_id in pool.cut_off:
            print_line(f"    cut off: {message_id}")
