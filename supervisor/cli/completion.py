"""`preforkd completion SHELL`: the script that teaches a shell to complete preforkd's commands (click's own)."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_PREFORKD_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script, e.g. for ~/.bashrc: eval "$(preforkd completion bash)"."""
    make = get_completion_class(shell)
    if make is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(make(context.find_root().command, {}, "preforkd", _VARIABLE).source())
