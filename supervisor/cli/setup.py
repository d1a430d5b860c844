"""`preforkd init`, `service` and `completion`: what a new installation is given.

`init` writes a commented configuration that works at once: the embedded queue, a handler that logs. `service` prints a
hardened systemd unit for this very installation (its path, its configuration).
"""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from supervisor.cli.command import command
from supervisor.cli.completion import VARIABLE
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.config.location import FILE_NAME
from supervisor.config.schema import DaemonConfig
from supervisor.errors import StateError

_MODE = 0o640  # it may come to hold a password
_PROGRAM = "/opt/preforkd/bin/preforkd"
_CONFIG = "/etc/preforkd/preforkd.toml"
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user")))
"""What ProtectHome= hides (systemd.exec(5))."""

_HOME_STATE = DaemonConfig(state_dir="preforkd-state", runtime_dir="preforkd-state/run")


@command(
    "init",
    ("Write ./preforkd.toml, and try it", "preforkd init && preforkd check"),
    ("Write a file for a service", "preforkd init /etc/preforkd/preforkd.toml"),
)
@click.argument("path", default=FILE_NAME, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init_command(path: Path, force: bool) -> int:
    """Write a commented configuration to PATH (./preforkd.toml).

    For root, state is in /var/lib and /run; for other users, in a folder beside the file.
    """
    target = path / FILE_NAME if path.is_dir() else path
    _write(target, template(DaemonConfig() if os.geteuid() == 0 else _HOME_STATE), force)
    named = "" if target == Path(FILE_NAME) else f" --config {target}"
    click.echo(f"wrote {target}; next: preforkd{named} check, then preforkd{named} start")
    return 0


def template(daemon: DaemonConfig) -> str:
    """The text of a new configuration with the directories of `daemon`."""
    text = resources.files("supervisor.cli").joinpath("template.toml").read_text(encoding="utf-8")
    return text.replace("@STATE_DIR@", daemon.state_dir).replace("@RUNTIME_DIR@", daemon.runtime_dir)


def _write(target: Path, text: str, force: bool) -> None:
    """Write a whole file or none: a new one never replaces another by accident. Raises StateError."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(part, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, _MODE)) as file:
            file.write(text)
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


@command(
    "service",
    ("Read the unit before it is installed", "preforkd service | less"),
    ("A unit for a file of your own", "preforkd service --config /srv/app/preforkd.toml"),
)
@pass_invocation
def service_command(invocation: Invocation) -> int:
    """Print a hardened systemd unit for this installation.

    It belongs into /etc/systemd/system/preforkd.service.
    """
    config = Path(invocation.config_path).resolve() if invocation.config_path else Path(_CONFIG)
    named = [Path(invocation.env_file)] if invocation.env_file else []
    command = " --env-file ".join(map(str, [program(Path(sys.argv[0]), Path(sys.executable)), *named]))
    click.echo(unit(command, config), nl=False)
    for path in hidden([Path(sys.prefix), Path(sys.executable).resolve(), config, *named]):
        click.echo(
            f"warning: the unit hides home directories (ProtectHome=yes), and {path} is in one: "
            "install elsewhere (/opt/preforkd), or set ProtectHome=read-only and User= in a drop-in",
            err=True,
        )
    return 0


def unit(command: str, config: Path) -> str:
    """The text of the unit that runs `command` with this configuration."""
    text = resources.files("supervisor.cli").joinpath("preforkd.service").read_text(encoding="utf-8")
    return text.replace(_PROGRAM, command).replace(_CONFIG, str(config))


def program(called: Path, interpreter: Path) -> str:
    """How systemd is to call us: as we were called, links and all, so that a link may be set to another version."""
    return str(called.absolute()) if called.name == "preforkd" else f"{interpreter} -P -m supervisor"


def hidden(paths: list[Path]) -> list[Path]:
    """Those that a service with ProtectHome= cannot see."""
    return [path for path in paths if any(home in path.parents for home in _HIDDEN)]


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
    click.echo(make(context.find_root().command, {}, "preforkd", VARIABLE).source())
