"""How a command is declared (`@command`, `@group`): with examples in its help, and with the global options.

A global option may stand anywhere in a line: `preforkd --config a.toml status`, `preforkd status --config a.toml`. If
it is given twice, the later one counts, as within one command: an alias for `preforkd --config …` can be overruled.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import click

from supervisor.cli.invocation import Invocation

COMPLETION_VARIABLE = "_PREFORKD_COMPLETE"
"""Set by the script of a shell, to `bash_complete` for one (click's protocol); `completion.py` answers."""

Example = tuple[str, str]
"""What it does, and the line itself. Both fit into 60 columns, and the line can be parsed: a test tries all."""


class GlobalOption(click.Option):
    """An option of every command, which is kept in the attribute of `Invocation` that has the option's name."""

    def __init__(self, *names: str, **extra: Any) -> None:
        super().__init__(names, expose_value=False, callback=_record, **extra)


def _record(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep a value that was given; outer commands are parsed before inner ones."""
    invocation = context.ensure_object(Invocation)
    if value is not None:
        setattr(invocation, str(option.name), value)


def global_options() -> list[click.Parameter]:
    """New objects for each command: click keeps a command's state in them."""
    return [
        GlobalOption(
            "--config",
            "config_path",
            metavar="FILE",
            type=click.Path(readable=False),
            help="The configuration; else $PREFORKD_CONFIG, ./preforkd.toml, /etc/preforkd/preforkd.toml.",
        ),
        GlobalOption(
            "--env-file",
            "env_file_path",
            metavar="FILE",
            type=click.Path(readable=False),
            help="A file of variables for ${VAR} and for handlers; else env_file in [daemon].",
        ),
    ]


class Command(click.Command):
    """A command with `examples`, which its help shows last."""

    def __init__(self, *args: Any, examples: tuple[Example, ...] = (), **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.examples = examples
        self.params += global_options()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's, then the examples: a line as it is typed, below its meaning."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("\n".join(f"  # {meaning}\n  {line}" for meaning, line in self.examples) + "\n")


class Group(Command, click.Group):
    """A command with commands of its own. In its list their first sentences are whole: click would cut them."""

    command_class = Command

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, subcommand_metavar="COMMAND", **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, which proposes similar names since 8.4 only. Raises click.UsageError for an unknown name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.commands)
            if near and near[0] not in (said := error.format_message()):
                raise click.UsageError(f"{said} Did you mean {near[0]!r}?", ctx) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands before the options: they are what is looked for."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line for each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_sentence(self.commands[name])) for name in self.list_commands(ctx)])


def first_sentence(command: click.Command) -> str:
    """The first sentence of a command's help, without its full stop."""
    paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".")


Function = Callable[..., Any]


def command(name: str, *examples: Example) -> Callable[[Function], Command]:
    """Make a command of a function; the function's docstring is its help."""
    return click.command(name, cls=Command, examples=examples)


def group(name: str, *examples: Example) -> Callable[[Function], Group]:
    """Make a group of commands; `name` and `examples` as for `command`.

    A command of it: `@that_group.command(NAME, examples=(…))`.
    """
    return click.group(name, cls=Group, examples=examples)
