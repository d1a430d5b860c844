"""`preforkd service`: a hardened systemd unit for this very installation (its path, its configuration, its user).

The unit goes to stdout. What would keep the service from its files goes to stderr, one warning a line: a service that
cannot read its configuration exits with 78, and systemd does not start it again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click

from supervisor.cli.command import command
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.reach import PYTHON, UNIT_USER, Needed, obstacles, of_code, of_configuration, of_python
from supervisor.config.load import load_daemon, load_without_secrets
from supervisor.config.schema import Config, DaemonConfig
from supervisor.errors import ConfigError, StateError
from supervisor.logs.target import STDERR
from supervisor.system.accounts import Account, account_of

_PROGRAM = "/opt/preforkd/bin/preforkd"
_CONFIG = "/etc/preforkd/preforkd.toml"
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user")))
"""What ProtectHome= hides (systemd.exec(5))."""

_WRITABLE = tuple(map(Path, ("/var/lib/preforkd", "/run/preforkd", "/tmp", "/var/tmp")))
"""The only folders that the unit can write to: StateDirectory=, RuntimeDirectory=, PrivateTmp=."""


@command(
    "service",
    ("Read the unit before it is installed", "preforkd service | less"),
    ("A unit for a file of your own", "preforkd service --config /srv/app/preforkd.toml"),
)
@pass_invocation
def service_command(invocation: Invocation) -> int:
    """Print a hardened systemd unit for this installation.

    It belongs into /etc/systemd/system/preforkd.service. Warnings name files that the unit's user cannot read.
    """
    config = Path(invocation.config_path or _CONFIG).absolute()
    env_file = invocation.env_file
    daemon = _daemon(config, env_file)
    user = daemon.user or UNIT_USER
    account: Account | None = None
    warnings: list[str] = []
    try:
        account = account_of(user, daemon.group)
    except StateError as error:
        warnings.append(str(error))
    warnings += _warnings(config, env_file, daemon, account)
    group = account.group if account else daemon.group or user
    command = " --env-file ".join(filter(None, [program(Path(sys.argv[0]), Path(sys.executable)), env_file]))
    click.echo(unit(command, config, user, group), nl=False)
    for text in warnings:
        click.echo(f"warning: {text}", err=True)
    return 0


def unit(command: str, config: Path, user: str = UNIT_USER, group: str = UNIT_USER) -> str:
    """The text of the unit that runs `command` with this configuration, as this user."""
    text = resources.files("supervisor.cli").joinpath("preforkd.service").read_text(encoding="utf-8")
    text = text.replace(_PROGRAM, command).replace(_CONFIG, str(config))
    return text.replace(f"\nUser={UNIT_USER}\nGroup={UNIT_USER}\n", f"\nUser={user}\nGroup={group}\n")


def program(called: Path, interpreter: Path) -> str:
    """How systemd is to call us: as we were called, links and all, so that a link may be set to another version."""
    return str(called.absolute()) if called.name == "preforkd" else f"{interpreter} -P -m supervisor"


def hidden(paths: list[Path]) -> list[Path]:
    """Those that a service with ProtectHome= cannot see."""
    return [path for path in paths if any(home in path.parents for home in _HIDDEN)]


def _daemon(config: Path, env_file: str | None) -> DaemonConfig:
    try:
        return load_daemon(str(config), env_file)
    except ConfigError:  # `_warnings` says why
        return DaemonConfig()


def _warnings(config: Path, env_file: str | None, daemon: DaemonConfig, account: Account | None) -> Iterator[str]:
    """All that would keep a service of this account from its work, as far as files can tell. `account`: None for none,
    so that no file can be tried."""
    called = Path(sys.argv[0]).absolute()
    rights = ("x", "r") if called.name == "preforkd" else ()  # a script: it is run, and read
    files = [*of_python(), *(Needed(PYTHON, called, right, tree=Path(sys.prefix)) for right in rights)]
    loaded: Config | None = None
    try:
        files += of_configuration(config, env_file)
        loaded = load_without_secrets(str(config), env_file)
        files += of_code(loaded)
    except ConfigError as error:
        yield f"{config}: {error.problems[0]}; the code of its handlers was not tested: `preforkd check` does"
    unseen = hidden([Path(sys.prefix), Path(sys.executable).resolve(), *(file.path for file in files if _named(file))])
    for path in dict.fromkeys(unseen):
        yield (
            f"the unit hides home directories (ProtectHome=yes), and {path} is in one: "
            "install elsewhere (/opt/preforkd), or set ProtectHome=read-only and User= in a drop-in"
        )
    if account:
        yield from _unreadable([file for file in files if not hidden([file.path])], account)
    yield from _read_only(daemon, loaded)


def _named(file: Needed) -> bool:
    """Whether the configuration names it, or is it."""
    return file.subject != PYTHON


def _unreadable(files: list[Needed], account: Account) -> Iterator[str]:
    if os.geteuid() not in (0, account.uid):
        yield f"only root can test which files user {account.name} may read: run this, or `preforkd check`, as root"
        return
    for needed, text in obstacles(files, account if os.geteuid() == 0 else None):
        yield f"{needed.subject}: {text}"


def _read_only(daemon: DaemonConfig, config: Config | None) -> Iterator[str]:
    places = {"daemon.state_dir": Path(daemon.state_dir), "daemon.runtime_dir": Path(daemon.runtime_dir)}
    if config and config.log.file != STDERR:
        places["log.file"] = Path(config.log.file).parent
    for key, place in places.items():
        if not any(place == folder or folder in place.parents for folder in _WRITABLE):
            yield f"{key}: the unit can only read {place}: make it, and add ReadWritePaths={place} in a drop-in"
