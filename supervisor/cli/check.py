"""`preforkd check`: would the daemon work? The configuration, the machine, the handlers, the broker, one line each.

It becomes the daemon's user first where it can, so that it sees the rights that the daemon will have. It starts nothing
that stays and changes no queue; `init` runs once, in a worker that gets no message. Exit codes: 0 no errors (there may
be warnings), 78 the configuration or a handler is at fault, 1 anything else.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import click

from supervisor.cli.advice import advise
from supervisor.cli.check_broker import about_broker
from supervisor.cli.command import command
from supervisor.cli.console import block
from supervisor.cli.findings import Finding, Level
from supervisor.cli.findings import error as _error
from supervisor.cli.findings import ok as _ok
from supervisor.cli.findings import warning as _warning
from supervisor.cli.handler_probe import ImportFailed, WorkerFailed, probe_handler
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.partitions import about_partitions
from supervisor.cli.reach import PYTHON, UNIT_USER, Needed, obstacles, of_code, of_configuration, of_python
from supervisor.config.schema import Config, DaemonConfig, HooksConfig, PoolConfig, WebConfig
from supervisor.config.sidecar_rules import is_loopback
from supervisor.control.client import ControlClient, NotRunning
from supervisor.errors import ConfigError, ControlError, PreforkdError, StateError
from supervisor.extras import missing
from supervisor.logs.redaction import Redactor, passwords, secrets_of, without_path
from supervisor.logs.target import STDERR
from supervisor.master.host.pidfile import STATE_LOCK, find_holder
from supervisor.master.host.privileges import account, become, refuse_directory
from supervisor.master.stop.phases import CLEANUP_S
from supervisor.own_names import conflict
from supervisor.quantities import show_seconds
from supervisor.system import kill_timer
from supervisor.system.accounts import Account, account_of
from supervisor.system.descent import shortcomings
from supervisor.system.memory import rooms
from supervisor.system.processes import real_uid
from supervisor.system.stop_grace import stop_doubt
from supervisor.system.trust import changeable_by
from supervisor.web.token_file import TokenFile

_REFUSED = "a reload is refused; `preforkd restart` applies it"
_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@command(
    "check",
    ("Test ./preforkd.toml", "preforkd check"),
    ("Test a file before it is installed", "preforkd check --config new.toml"),
)
@pass_invocation
def check_command(invocation: Invocation) -> int:
    """Test the configuration on this machine: handlers, broker, directories.

    It changes nothing. Exit code: 0 no error, 78 a fault of the configuration or of a handler, 1 another fault.
    """
    found: list[Finding] = []
    redactor = Redactor()
    try:
        config = invocation.config
        for secret in set().union(*map(passwords, config.secret_urls), secrets_of(config.hooks.webhook)):
            redactor.add(secret)
        for finding in findings(config):
            found.append(finding)
            _print(finding, redactor)
    except ConfigError as error:
        found = [_error(error.source, str(problem), error.exit_code) for problem in error.problems]
        for finding in found:
            _print(finding, redactor)
    errors = [finding for finding in found if finding.level is Level.ERROR]
    warnings = [finding for finding in found if finding.level is Level.WARNING]
    click.echo(f"{len(errors)} error(s), {len(warnings)} warning(s)")
    return max((finding.status for finding in errors), default=0)


def findings(config: Config) -> Iterator[Finding]:
    """All that can be said about a configuration that loads, in the order in which it is found out."""
    yield _ok("configuration", config.source)
    try:
        target = account(config.daemon)
    except PreforkdError as error:
        yield _error("daemon.user", str(error), os.EX_CONFIG)
        return
    yield from _about_running(config, target)
    unreachable = list(_about_files(config, target))
    yield from unreachable
    blocked = {finding.subject for finding in unreachable if finding.level is Level.ERROR}
    if target:
        become(target)
    yield from _about_rights(config, made_by_root=target is not None)
    if PYTHON in blocked:
        return
    for text in shortcomings():
        yield _warning("machine", text)
    if text := kill_timer.shortcoming():  # in a fleet the late run would be a second one at the same time
        yield (_warning if config.fleet is None else _error)("machine", text)
    running = _running_pid(config)
    for key, text in (*advise(config, rooms(running)), *about_partitions(config)):
        yield _warning(key, text)
    pid = running or os.getpid()
    if doubt := stop_doubt(config.daemon.stop_timeout_s, CLEANUP_S, pid, os.environ, Path("/")):
        yield _warning("daemon.stop_timeout", doubt)
    yield from about_sidecars(config)
    for pool in config.pools.values():
        if f"pools.{pool.name}.handler" not in blocked:
            yield from _about_handler(pool, config)
    yield from about_broker(config)
    if config.fleet is not None and not missing(config):
        from supervisor.cli.fleet_check import about_fleet  # loads psycopg, which only a fleet needs

        yield from about_fleet(config, config.fleet)


def _about_files(config: Config, target: Account | None) -> Iterator[Finding]:
    """Files that the daemon's user may not read; as warnings, where only the unit's user may not."""
    files = [*of_python(), *of_configuration(Path(config.source), config.daemon.env_file or None), *of_code(config)]
    failed: set[Needed] = set()
    for needed, text in obstacles(files, target):
        failed.add(needed)
        yield _error(needed.subject, text, 1 if needed.subject == PYTHON else os.EX_CONFIG)
    if target is None and os.geteuid() == 0:
        with suppress(StateError):
            for needed, text in obstacles([file for file in files if file not in failed], account_of(UNIT_USER)):
                yield _warning(needed.subject, f"the unit of `preforkd service` runs as {UNIT_USER}: {text}")


# ---- the machine --------------------------------------------------------------------------------------------------


def _about_rights(config: Config, made_by_root: bool) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield _warning("daemon.user", "handlers will run as root; set `user` in [daemon]")
    for key, directory in (("state_dir", config.daemon.state_dir), ("runtime_dir", config.daemon.runtime_dir)):
        yield from _about_directory(f"daemon.{key}", Path(directory), made_by_root)
    yield from _about_log(config.log.file)
    yield from _about_source(Path(config.source), config)
    if os.access(config.daemon.env_file, os.R_OK):
        names = ", ".join(config.variables) or "no variable"
        yield _ok("daemon.env_file", f"{config.daemon.env_file} adds {names} to the environment")


def _about_directory(key: str, directory: Path, made_by_root: bool) -> Iterator[Finding]:
    try:
        nearest = _nearest(directory)
    except OSError as error:
        yield _error(key, f"{directory} cannot be reached by uid {os.geteuid()}: {error.strerror}")
        return
    if nearest == directory:
        try:
            refuse_directory(directory, directory.stat(), os.geteuid())
        except StateError as error:
            yield _error(key, str(error))
            return
    if is_full(nearest):
        yield _error(key, f"{directory}: no space is left on its file system; free some space")
    elif os.access(nearest, os.W_OK | os.X_OK) and nearest.is_dir():
        yield _ok(key, str(directory))
    elif nearest == directory:
        yield _error(key, f"{directory} is not a directory that uid {os.geteuid()} may write to")
    elif made_by_root and not changeable_by(directory.parent):
        yield _ok(key, f"{directory} will be made at the start")
    else:
        yield _warning(key, f"{directory} does not exist and uid {os.geteuid()} cannot make it; a start by root can")


def is_full(directory: Path) -> bool:
    """Whether no further file, or nothing in it, fits into the file system of a directory."""
    found = os.statvfs(directory)
    root = os.geteuid() == 0  # may use what is reserved
    blocks, files = (found.f_bfree, found.f_ffree) if root else (found.f_bavail, found.f_favail)
    return (found.f_blocks > 0 and blocks == 0) or (found.f_files > 0 and files == 0)  # 0: it does not count them


def _about_log(file: str) -> Iterator[Finding]:
    """The log file must be one that can be opened; it is not made here."""
    path = Path(file)
    try:
        if file != STDERR and path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
        elif file != STDERR and not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"uid {os.geteuid()} cannot make it")
    except OSError as error:
        text = f"{file} cannot be opened: {error.strerror}; correct its rights, or `file` in [log]"
        yield _error("log.file", text)


def _nearest(path: Path) -> Path:
    """The path itself, or the innermost folder of it that is there. Raises OSError where we may not even look."""
    with suppress(FileNotFoundError):
        path.stat()
        return path
    return _nearest(path.parent)


def _about_source(source: Path, config: Config) -> Iterator[Finding]:
    if not os.access(source, os.R_OK):  # said already
        return
    readable_by_all = source.stat().st_mode & stat.S_IROTH
    text = source.read_text(encoding="utf-8")
    if readable_by_all and any(word in text for url in config.secret_urls for word in passwords(url)):
        yield _warning(str(source), "all users may read the password in it: chmod o-r, or use broker.url_file")
    if readable_by_all and config.web.token and config.web.token in text:
        yield _warning(str(source), "all users may read the token in it: chmod o-r, or use web.token_file")


def _about_handler(pool: PoolConfig, config: Config) -> Iterator[Finding]:
    key, init = f"pools.{pool.name}.handler", f"pools.{pool.name}.{'init' if pool.init else 'middleware'}"
    folders = (Path(config.daemon.runtime_dir), Path(config.daemon.state_dir))
    places = [place for folder in folders for place in (folder, folder.parent)]  # a first start makes them
    try:
        took = probe_handler(pool, places=places, config=config)
    except ImportFailed as error:
        key = error.key if isinstance(error, WorkerFailed) else key
        yield _error(key, str(error).removeprefix(f"{key} = "), error.exit_code, error.stack)
    except PreforkdError as error:
        yield _error(key, str(error), error.exit_code)
    else:
        yield _ok(key, f"{pool.handler} imports in {show_seconds(took.import_s)}")
        if hidden := conflict(pool.handler.partition(":")[0], [*pool.path, *sys.path]):
            yield _warning(key, hidden)
        if called := ", ".join(filter(None, (pool.init, *pool.middleware))):
            yield _ok(init, f"{called} runs; a worker is ready in {show_seconds(took.boot_s)}")


# ---- web page and hooks ------------------------------------------------------------------------------------------


def about_sidecars(config: Config) -> Iterator[Finding]:
    """Nothing where both are off."""
    for problem in missing(config):
        yield _error(problem.path, f"{problem.reason} ({problem.hint})", os.EX_CONFIG)
    if config.web.listen:
        yield from _about_web(config.web, config.daemon)
    if config.hooks.wanted:
        yield from _about_hooks(config.hooks)


def _about_web(web: WebConfig, daemon: DaemonConfig) -> Iterator[Finding]:
    if not web.token_file:
        actions = (
            "actions with the token in web.token" if web.token else "read only: without a token there are no actions"
        )
        yield _ok("web.listen", f"{web.listen}, {actions}")
        return
    try:
        user = account(daemon)
        TokenFile(Path(web.token_file), user.uid if user else None)
    except StateError as error:
        yield _error("web.token_file", str(error), os.EX_CONFIG)
    else:
        yield _ok("web.listen", f"{web.listen}, actions with the token in {web.token_file}")


def _about_hooks(hooks: HooksConfig) -> Iterator[Finding]:
    for key in ("on_exit", "on_hold", "on_dead"):
        program = next(iter(shlex.split(getattr(hooks, key))), "")
        if found := shutil.which(program):
            yield _ok(f"hooks.{key}", found)
        elif program:
            text = f"there is no program {program} that uid {os.geteuid()} may run; install it, or give its whole path"
            yield _error(f"hooks.{key}", text, os.EX_CONFIG)
    if hooks.webhook:
        yield _about_webhook(hooks.webhook)


def _about_webhook(url: str) -> Finding:
    parts = urlsplit(url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return _ok("hooks.webhook", f"events are posted to {without_path(url)}")
    text = f"{without_path(url)}: others can read the posted events on their way; use https"
    return _warning("hooks.webhook", text)


def _print(finding: Finding, redactor: Redactor) -> None:
    text = str(redactor.clean(f"{finding.subject}: {finding.text}\n{finding.detail}"))
    first, *below = block(text).rstrip().splitlines()
    click.echo(f"{click.style(f'{finding.level:8}', fg=_COLOURS[finding.level])} {first}")
    for line in below:
        click.echo(f"         {line}")


def _running_pid(config: Config) -> int | None:
    """The daemon of this configuration: limits of its service count, and not those of a login. None: none runs."""
    holder = find_holder(Path(config.daemon.state_dir, STATE_LOCK))
    return None if holder is None else holder.pid


def _about_running(config: Config, target: Account | None) -> Iterator[Finding]:
    """Findings about the daemon of this configuration, none where none runs. `target`: the configured user."""
    try:
        with ControlClient(Path(config.daemon.runtime_dir)) as daemon:
            status = daemon.status()
    except NotRunning:
        holder = find_holder(Path(config.daemon.state_dir, STATE_LOCK))
        if holder is not None:
            text = f"the running daemon (pid {holder.pid}) does not listen in {config.daemon.runtime_dir}: {_REFUSED}"
            yield _warning("daemon.runtime_dir", text)
        return
    except ControlError:  # it is of another user, or does not answer: nothing is known of it
        return
    if status.state_dir != config.daemon.state_dir:
        text = f"the running daemon (pid {status.pid}) has {status.state_dir}: {_REFUSED}"
        yield _warning("daemon.state_dir", text)
    uid = real_uid(status.pid)
    if target is not None and uid not in (None, target.uid):
        text = f"the running daemon (pid {status.pid}) is of uid {uid}, not of uid {target.uid}: {_REFUSED}"
        yield _warning("daemon.user", text)
