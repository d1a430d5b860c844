"""`preforkd service`: prints a hardened systemd unit for this very installation (its path, its configuration)."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import click

from supervisor.cli.invocation import Invocation, pass_invocation

_PROGRAM = "/opt/preforkd/bin/preforkd"
_CONFIG = "/etc/preforkd/preforkd.toml"
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user")))
"""What ProtectHome= hides (systemd.exec(5))."""


@click.command("service")
@pass_invocation
def service_command(invocation: Invocation) -> int:
    """Print a hardened systemd unit: preforkd service > /etc/systemd/system/preforkd.service."""
    config = Path(invocation.config_path).resolve() if invocation.config_path else Path(_CONFIG)
    click.echo(unit(program(Path(sys.argv[0]), Path(sys.executable)), config), nl=False)
    for path in hidden([Path(sys.prefix), Path(sys.executable).resolve(), config]):
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
