"""`preforkd init` and `completion`: files for a new installation.

`init` writes a commented configuration that works at once: the embedded queue, a handler that logs. Root's file can be
read by the daemon's user, which reads it again at each reload.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from supervisor.cli.command import COMPLETION_VARIABLE, command
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.cli.reach import UNIT_USER
from supervisor.config.location import FILE_NAME
from supervisor.config.schema import DaemonConfig
from supervisor.errors import StateError
from supervisor.system.accounts import Account, account_of

_MODE = 0o640  # it may come to hold a password
_HOME_STATE = DaemonConfig(state_dir="preforkd-state", runtime_dir="preforkd-state/run")


@command(
    "init",
    ("Write ./preforkd.toml, and try it", "preforkd init && preforkd check"),
    ("Write a file for a service", "preforkd init /etc/preforkd/preforkd.toml"),
)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--user", metavar="NAME", help="For root: the daemon's user (preforkd, if there is one).")
@pass_invocation
def init_command(invocation: Invocation, path: Path | None, force: bool, user: str | None) -> int:
    """Write a commented configuration to PATH, else to that of --config, else to ./preforkd.toml.

    For root, state is in /var/lib and /run, and the file can be read by the group of the daemon's user. For other
    users, state is in a folder beside the file.
    """
    by_root = os.geteuid() == 0
    if user and not by_root:
        raise click.UsageError("--user is for root: the daemon of another user runs as that user")
    owner = _daemon_account(user) if by_root else None
    path = path or Path(invocation.config_path or FILE_NAME)
    target = path / FILE_NAME if path.is_dir() else path
    daemon = DaemonConfig(user=owner.name if owner else "") if by_root else _HOME_STATE
    _write(target, template(daemon), force, owner)
    named = "" if target == Path(FILE_NAME) else f" --config {target}"
    click.echo(f"wrote {target}; next: preforkd{named} check, then preforkd{named} start")
    if by_root and owner is None:
        click.echo(f"note: without `user` in [daemon] handlers run as root. For a service: {_make_user()}", err=True)
    return 0


def _daemon_account(user: str | None) -> Account | None:
    """The account of `user`, or of the unit's user where there is one. Raises StateError for an unknown `user`."""
    try:
        return account_of(user or UNIT_USER)
    except StateError:
        if user:
            raise
        return None


def _make_user() -> str:
    return (
        f"useradd --system --home-dir {DaemonConfig().state_dir} --shell /usr/sbin/nologin {UNIT_USER}, "
        "then preforkd init --force"
    )


def template(daemon: DaemonConfig) -> str:
    """The text of a new configuration with the directories of `daemon`."""
    text = resources.files("supervisor.cli").joinpath("template.toml").read_text(encoding="utf-8")
    if daemon.user:
        text = text.replace('# user = "preforkd"  ', f'user = "{daemon.user}"    ')
    return text.replace("@STATE_DIR@", daemon.state_dir).replace("@RUNTIME_DIR@", daemon.runtime_dir)


def _write(target: Path, text: str, force: bool, owner: Account | None) -> None:
    """Write a whole file or none, readable by the group of `owner`; a new one never replaces another by accident.

    Raises StateError.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _make_folder(target.parent, owner)
        with open(part, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, _MODE)) as file:
            file.write(text)
            if owner:
                os.fchown(file.fileno(), -1, owner.gid)
                os.fchmod(file.fileno(), _MODE)
        try:
            if force:
                part.replace(target)
            else:
                target.hardlink_to(part)  # unlike a rename, this fails if the file exists by now
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError:
        raise StateError(f"{target} is there already; --force replaces it") from None
    except OSError as error:
        raise StateError(f"{target} cannot be written: {error.strerror}") from error


def _make_folder(folder: Path, owner: Account | None) -> None:
    """Make a folder where it is missing, and those above; with `owner`, for root and its group, whatever the umask is.

    The folders above can be passed by all users.
    """
    missing = [place for place in (folder, *folder.parents) if not place.is_dir()]
    for place in reversed(missing):
        place.mkdir(mode=0o750 if place == folder else 0o755)
        if owner:
            os.chown(place, -1, owner.gid if place == folder else -1)
            place.chmod(0o750 if place == folder else 0o755)


@command(
    "completion",
    ("bash, now; for later, add it to ~/.bashrc", 'eval "$(preforkd completion bash)"'),
    ("zsh, now; for later, add it to ~/.zshrc", 'eval "$(preforkd completion zsh)"'),
    ("fish, now; for later, add it to config.fish", "preforkd completion fish | source"),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    It completes commands, options, pools, queues and message ids.
    """
    import supervisor.cli.shells  # noqa: F401  (registers our script for bash)

    make = get_completion_class(shell)
    if make is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(make(context.find_root().command, {}, "preforkd", COMPLETION_VARIABLE).source())
