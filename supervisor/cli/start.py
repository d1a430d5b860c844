"""`preforkd run` (in the foreground, for systemd) and `preforkd start` (as a daemon; returns when it is ready)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import click
import msgspec

from supervisor.cli.command import command
from supervisor.cli.console import print_line, shown
from supervisor.cli.daemonize import Announce, Startup, start_daemon
from supervisor.cli.invocation import LOG_NAME, POOL_HELD, SECONDS, Invocation, pass_invocation
from supervisor.config.load import load
from supervisor.config.schema import Config
from supervisor.control.results import PoolStatus
from supervisor.errors import PreforkdError, StateError
from supervisor.extras import refuse_missing
from supervisor.logs import structured
from supervisor.logs.journal import is_journal
from supervisor.logs.target import STDERR
from supervisor.master.host.pidfile import PID_FILE, find_holder
from supervisor.master.host.privileges import account, open_log, prepare_directory
from supervisor.master.run import run_daemon
from supervisor.master.startup import OnReady
from supervisor.system.accounts import acting_as

START_TIMEOUT_S = 60.0

_NOT_TRIED_AGAIN = (
    "systemd does not start this service again after exit status 78: correct the error above, run `preforkd check` as "
    "root, then `systemctl start` the service"
)


@command(
    "run",
    ("Run until Ctrl-C", "preforkd run"),
    ("In a container", "preforkd run --config /etc/preforkd/preforkd.toml"),
)
@pass_invocation
def run_command(invocation: Invocation) -> int:
    """Run in the foreground until SIGTERM or Ctrl-C.

    A systemd unit and a container call this.
    """
    try:
        return _run(refuse_missing(invocation.config), invocation.env_file)
    except PreforkdError as error:
        if error.exit_code == os.EX_CONFIG and is_journal(os.environ.get("JOURNAL_STREAM", "")):
            error.add_note(_NOT_TRIED_AGAIN)
        raise


def _run(config: Config, env_file: str | None) -> int:
    _prepare_log(config)
    reasons: list[str] = []
    status = _serve(config, env_file, lambda held: None, reasons.append)
    if reasons:
        raise _failed_start(reasons[0], status)
    return status


@command(
    "start",
    ("Start, and see whether all pools work", "preforkd start && preforkd status"),
    ("Allow slow imports", "preforkd start --timeout 5m"),
)
@click.option("--timeout", "timeout_s", type=SECONDS, default=START_TIMEOUT_S, help="Wait so long at most (60s).")
@pass_invocation
def start_command(invocation: Invocation, timeout_s: float) -> int:
    """Start the daemon and return when it is ready, or with the reason of the failure.

    Exit code 150: the daemon is ready, but a pool is held.
    """
    return start(invocation, timeout_s)


def start(invocation: Invocation, timeout_s: float) -> int:
    """Start a daemon and say how it went. Raises StateError when one runs already, PreforkdError when it fails."""
    _refuse_second(invocation)
    config = _with_log_file(refuse_missing(invocation.config))
    _prepare_log(config)
    log_file = Path(config.log.file)
    output = open_log(log_file, account(config.daemon))
    try:
        serve = partial(_serve_announced, config, invocation.env_file)
        startup = start_daemon(serve, output, log_file, timeout_s)
    except KeyboardInterrupt:
        click.echo("\nthe daemon goes on starting: `preforkd status` shows it, `preforkd stop` ends it", err=True)
        raise
    if startup is None:
        raise PreforkdError(
            f"preforkd is not ready after {timeout_s:g} s; it goes on starting in the background: "
            f"`preforkd status` shows its progress, its log is {log_file}{_obstacles(invocation)}"
        )
    if not startup.ready:
        raise _failed_start(f"{startup.reason}\n  (log: {log_file})", startup.status)
    print_line(f"preforkd is ready, pid {startup.pid}, log {log_file}")
    for line in (*startup.reason.splitlines(), *_remarks(invocation)):
        click.echo(shown(line), err=True)
    return startup.status


def _serve(config: Config, env_file: str | None, on_ready: OnReady, on_failed: Callable[[str], None]) -> int:
    structured.hide_passwords(config.secret_urls)
    structured.add_secret(config.web.token)
    with acting_as(account(config.daemon)):
        structured.configure(config.log, "master")
    return run_daemon(config, lambda: _read_again(config, env_file), on_ready, on_failed)


def _read_again(former: Config, env_file: str | None) -> Config:
    """The same files as they are now, for a reload; a daemon that logs to a file of its own goes on doing so."""
    config = refuse_missing(load(former.source, env_file))
    structured.hide_passwords(config.secret_urls)
    structured.add_secret(config.web.token)
    own_file = str(Path(former.daemon.state_dir) / LOG_NAME)
    return _with_log_file(config) if former.log.file == own_file else config


def _serve_announced(config: Config, env_file: str | None, announce: Announce) -> int:
    """Serve as a daemon and announce once: readiness as soon as it is there, else why it never came."""
    announced: list[Startup] = []
    reasons: list[str] = []

    def tell(startup: Startup) -> None:
        if not announced:
            announced.append(startup)
            announce(startup)

    try:
        status = _serve(config, env_file, lambda held: tell(_ready_but(held)), reasons.append)
    except PreforkdError as error:
        status = error.exit_code
        reasons.append(str(error))
    except Exception as error:  # a bug: its stack goes to the daemon's log, the starting command gets a line
        tell(Startup(False, os.getpid(), f"this is a bug in preforkd ({type(error).__name__}: {error})", 1))
        raise
    reason = reasons[0] if reasons else "the daemon ended before it was ready"
    tell(Startup(False, os.getpid(), reason, status))
    return status


def _ready_but(held: Mapping[str, str]) -> Startup:
    lines = (
        f"  pool {name} is held: {why}; it is tried again after hold_retry, or at once by `preforkd retry {name}`"
        for name, why in held.items()
    )
    return Startup(True, os.getpid(), "\n".join(lines), POOL_HELD if held else 0)


def _remarks(invocation: Invocation) -> list[str]:
    """Notes on each pool that has just started, a line each: a queue that was made, and symptoms."""
    status = invocation.status()
    pools = status.pools if status else {}
    told = {name: (pool.depth.declared, *pool.consumer.notes) for name, pool in pools.items()}
    return [f"  pool {name}: {text}" for name, texts in told.items() for text in texts if text]


def _obstacles(invocation: Invocation) -> str:
    """What each pool of a daemon that is still starting waits for, a line each; "" if the daemon does not answer."""
    status = invocation.status()
    pools = status.pools if status else {}
    return "".join(f"\n  pool {name}: {shown(why)}" for name, pool in pools.items() if (why := _obstacle(pool)))


def _obstacle(pool: PoolStatus) -> str:
    connection = pool.consumer.connection
    unconnected = f"{connection.state} {connection.host} ({connection.why})" if connection.why else ""
    return next(filter(None, [pool.forkserver.why, pool.consumer.why, unconnected, pool.why]), "")


def _refuse_second(invocation: Invocation) -> None:
    """Say early that a daemon is there; the locks in the state and runtime directories are what prevents a second."""
    holder = find_holder(invocation.runtime_dir / PID_FILE)
    if holder is not None:
        raise StateError(
            f"preforkd is running already, pid {holder.pid}; `preforkd status` shows it, `preforkd restart` replaces it"
        )


def _with_log_file(config: Config) -> Config:
    """A daemon has no stderr: its log goes to a file of the state directory where none is configured."""
    if config.log.file != STDERR:
        return config
    file = str(Path(config.daemon.state_dir) / LOG_NAME)
    return msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, file=file))


def _prepare_log(config: Config) -> None:
    """Make the log file the daemon's own before any process writes to it: root starts, but will not stay root."""
    owner = account(config.daemon)
    prepare_directory(Path(config.daemon.state_dir), owner)
    if owner is not None and config.log.file != STDERR:
        os.close(open_log(Path(config.log.file), owner))


def _failed_start(reason: str, status: int) -> PreforkdError:
    """The error for a daemon that gave up at its start, with the exit code it left with."""
    error = PreforkdError(reason)
    error.exit_code = status or 1
    return error
