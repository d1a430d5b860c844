"""`preforkd init`: writes a commented configuration that works at once: the embedded queue, a handler that logs."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import click

from supervisor.config.load import FILE_NAME
from supervisor.config.schema import DaemonConfig
from supervisor.errors import StateError

_MODE = 0o640  # it may come to hold a password
_HOME_STATE = DaemonConfig(state_dir="preforkd-state", runtime_dir="preforkd-state/run")


@click.command("init")
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
            _put(part, target, force)
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError:
        raise StateError(f"{target} is there already; --force replaces it") from None
    except OSError as error:
        raise StateError(f"{target} cannot be written: {error.strerror}") from error


def _put(part: Path, target: Path, force: bool) -> None:
    if force:
        part.replace(target)
    else:
        target.hardlink_to(part)  # unlike a rename, this fails if the file exists by now
