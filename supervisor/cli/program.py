"""What the command line does: argv in, exit code out. The only package that may import everything.

Whatever goes wrong, a user reads one line that says what to do, never a traceback (PREFORKD_DEBUG=1 shows it).
Exit codes: 0 ok, 1 failed, 2 wrong usage, 78 bad configuration (EX_CONFIG); `status` has its own (LSB).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import UserDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.catalogue import COMMANDS, SECTIONS, Entry
from supervisor.cli.command import COMPLETION_VARIABLE, Group
from supervisor.cli.console import block
from supervisor.cli.process import discard_output, interrupted_by, open_standard, say_error
from supervisor.errors import PreforkdError
from supervisor.logs.journal import is_journal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

DEBUG_VARIABLE = "PREFORKD_DEBUG"

_JOURNAL_ERROR, _JOURNAL_NOTICE = "<3>", "<5>"  # priorities, sd-daemon(3)
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_READER_GONE = 141  # 128 + SIGPIPE: the command was cut short, so what it would have found is not known
_SUPERVISORD = re.compile(r"supervisor-([^-]+)(?:-.+)?\.(?:dist|egg)-info")  # where its metadata is, in site-packages


class Commands(UserDict[str, Any]):
    """What click takes for a group's dictionary of commands: it knows all names, and loads what is looked up."""

    def __getitem__(self, name: str) -> click.Command:
        found = self.data[name]
        if isinstance(found, Entry):
            module, _, attribute = found.where.partition(":")
            found = self.data[name] = getattr(import_module(f"supervisor.cli.{module}"), attribute)
        command: click.Command = found
        return command


class _ReaderGone(Exception):
    """What is printed has no reader any more. No OSError: of such a one click makes an exit with 1, "failed"."""


class _Program(Group):
    """The group of all commands. Lists them without loading them, and tells a reader that has gone from a failure."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click's; help and version are printed here."""
        with _noticing_readers():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        with _noticing_readers():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for each part of the catalogue, all with the same columns."""
        width = max(map(len, COMMANDS))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The names of commands, or of options."""
        from click.shell_completion import CompletionItem  # loaded late: only completion needs it

        found = [
            CompletionItem(name, help=each.summary) for name, each in COMMANDS.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@contextmanager
def _noticing_readers() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from supervisor.cli.version import version_line

        click.echo(version_line())
        context.exit()


@click.group(
    cls=_Program,
    commands=Commands(COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`preforkd COMMAND --help` shows the options of a command, and examples.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show version and commit.",
)
def preforkd() -> None:
    """A pre-fork process supervisor for message workers.

    Begin with `preforkd init`, `preforkd check` and `preforkd start`.
    """


def run(argv: Sequence[str] | None) -> int:
    """Run one command and give back its exit code. `argv` as for `supervisor.cli.main`."""
    open_standard()
    if argv is None and os.environ.get(COMPLETION_VARIABLE):
        from supervisor.cli import completion  # loaded late: only shells need it

        return completion.answer(preforkd)
    try:
        with interrupted_by((signal.SIGINT,)):
            _refuse_supervisord()
            result = preforkd.main(args=argv, prog_name="preforkd", standalone_mode=False)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PreforkdError as error:
        return _failed(error, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say_error("interrupted")
        return _INTERRUPTED
    except (_ReaderGone, BrokenPipeError):  # `preforkd exits | head`
        discard_output()
        return _READER_GONE
    except OSError as error:  # a full disk behind stdout, a folder without permission: the fault is the machine's
        discard_output()
        file = f"{error.filename}: " if error.filename else ""
        return _failed(PreforkdError(f"{file}{error.strerror or error}; {DEBUG_VARIABLE}=1 shows where"), 1)
    except UnicodeError as error:
        return _failed(PreforkdError(f"{_odd_text(error)} is not UTF-8: write or name it in UTF-8"), 1)
    except Exception as error:  # noqa: BLE001  (a bug: users still get one line, and the way to the rest)
        hint = f"this is a bug in preforkd ({type(error).__name__}: {error}); {DEBUG_VARIABLE}=1 shows where"
        return _failed(PreforkdError(hint), 1)


def _failed(error: PreforkdError, status: int) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    in_journal = is_journal(os.environ.get("JOURNAL_STREAM", ""))
    error_prefix, note_prefix = (_JOURNAL_ERROR, _JOURNAL_NOTICE) if in_journal else ("", "")  # each line is an entry
    lines = [error_prefix + line for line in block(f"error: {error}").splitlines()]
    say_error("\n".join([*lines, *(note_prefix + note for note in getattr(error, "__notes__", ()))]))
    return status


def _odd_text(error: UnicodeError) -> str:
    """The text (an argument, a name, a value of the environment) that holds other bytes than UTF-8."""
    return repr(error.object) if isinstance(error, UnicodeEncodeError | UnicodeDecodeError) else "a text"


def _refuse_supervisord() -> None:
    """Raise PreforkdError where supervisord's distribution is installed: it has the same import name as ours."""
    version = _version_of_supervisord()
    if not version:
        return
    raise PreforkdError(
        f"the PyPI project `supervisor` {version} (supervisord) is installed in {sys.prefix} and has the same "
        f"import name as preforkd; give preforkd an environment of its own (python3 -m venv), or run "
        f"`pip uninstall supervisor`, then install preforkd again"
    )


def _version_of_supervisord() -> str:
    """Its version, or nothing. importlib.metadata could tell, too, but the master would carry it (2 MiB)."""
    names = (name for folder in sys.path for name in _names_in(folder))
    return next((found[1] for found in map(_SUPERVISORD.fullmatch, names) if found), "")


def _names_in(folder: str) -> list[str]:
    try:
        return [entry.name for entry in Path(folder).iterdir()]
    except OSError:  # an archive, not there, or not for us to read
        return []
