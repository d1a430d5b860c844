"""Where a view is shown: a terminal, which is taken over and always given back, or plain text for everything else.

The only place with termios. rich turns styles into what this terminal can show (NO_COLOR included).
"""

from __future__ import annotations

import os
import shutil
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import click

from supervisor.cli.top.frame import Size
from supervisor.cli.top.lines import Line, Style, text_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLOURS: dict[Style, str] = {
    Style.PLAIN: "",
    Style.TITLE: "bold",
    Style.DIM: "bright_black",
    Style.GOOD: "green",
    Style.NOTE: "cyan",
    Style.WARN: "yellow",
    Style.BAD: "bold red",
    Style.PICKED: "reverse",
}

_PAPER = (120, 40)
_NO_SCREEN = frozenset({"", "dumb", "unknown"})
_ASCII = str.maketrans({"█": "#", "░": ".", "…": "~", "·": "-"})
_INPUT_FLAGS = 0  # of the list that tcgetattr(3) gives
_KEY_BYTES = 1024


class Display(Protocol):
    """What the loop draws on."""

    @property
    def live(self) -> bool:
        """Whether what is shown replaces what was shown before."""

    @property
    def keys(self) -> bool:
        """Whether keys can be read."""

    def size(self) -> Size:
        """How much fits."""

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines, in the place of those before where it is live."""

    def print(self, lines: Sequence[Line]) -> None:
        """Write the lines without taking anything over."""

    def read(self) -> bytes:
        """What was typed; b"" once the terminal has gone."""

    def enter(self) -> None:
        """Take over."""

    def leave(self) -> None:
        """Give everything back as it was."""


def make_display(keys: bool) -> Display:
    """A terminal where stdout is one that can move its cursor. `keys`: whether keys are of any use."""
    able = sys.stdout.isatty() and os.environ.get("TERM", "") not in _NO_SCREEN
    return Terminal(keys and sys.stdin.isatty()) if able else PlainOutput()


class PlainOutput:
    """Plain text without a control code, one block after another: for pipes, files, and dumb terminals."""

    live = keys = False

    def size(self) -> Size:
        """As COLUMNS and LINES say, or the terminal; without them what is comfortable to read."""
        return Size(*shutil.get_terminal_size(_PAPER))

    def show(self, lines: Sequence[Line]) -> None:
        """Print the lines, and an empty one after them."""
        self.print(lines)
        click.echo()

    def print(self, lines: Sequence[Line]) -> None:
        """Print the lines."""
        for each in _without_end(lines):
            click.echo(_encodable(text_of(each).rstrip()))

    def read(self) -> bytes:
        """There are no keys."""
        return b""

    def enter(self) -> None:
        """Nothing to take over."""

    def leave(self) -> None:
        """Nothing to give back."""


class Terminal:
    """A terminal on stdout: its second screen, without cursor, and single keys where stdin is a terminal, too."""

    live = True

    def __init__(self, keys: bool) -> None:
        from rich.console import Console  # loaded late: it costs more time than most commands take

        self.keys = keys
        self._console: Console = Console(markup=False, highlight=False, emoji=False, soft_wrap=False)
        self._former: list[Any] | None = None

    def size(self) -> Size:
        """As the terminal is now."""
        return Size(*os.get_terminal_size(sys.stdout.fileno()))

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the whole screen."""
        from rich.console import Group  # loaded late, as above

        size = self.size()
        self._console.size = size  # not COLUMNS and LINES, which a shell may have exported when it was of another size
        blank: list[Line] = [()] * (size.height - len(lines))
        self._console.update_screen(Group(*(_rich_text(each) for each in [*lines, *blank])))

    def print(self, lines: Sequence[Line]) -> None:
        """Write the lines without taking anything over."""
        for each in _without_end(lines):
            self._console.print(_rich_text(each))

    def enter(self) -> None:
        """Take the terminal over. Ctrl-S must not stop us: what is stopped gives nothing back."""
        if self.keys:
            self._former = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)
            wanted = termios.tcgetattr(sys.stdin)
            wanted[_INPUT_FLAGS] &= ~termios.IXON
            termios.tcsetattr(sys.stdin, termios.TCSANOW, wanted)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def leave(self) -> None:
        """Give the terminal back; one that has gone (a closed window) needs nothing."""
        with suppress(OSError, termios.error):
            self._console.set_alt_screen(False)
            self._console.show_cursor(True)
        if self._former is not None:
            with suppress(OSError, termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSANOW, self._former)
            self._former = None

    def read(self) -> bytes:
        """What was typed; b"" when the terminal has gone."""
        try:
            return os.read(sys.stdin.fileno(), _KEY_BYTES)
        except OSError:
            return b""


def _without_end(lines: Sequence[Line]) -> Sequence[Line]:
    """The lines up to the last that is not empty: the rest only fills a screen."""
    full = [number for number, each in enumerate(lines, 1) if each]
    return lines[: full[-1]] if full else []


def _rich_text(spans: Line) -> Text:
    from rich.text import Text  # loaded late, as above

    text = Text(no_wrap=True, overflow="crop")
    for part, style in spans:
        text.append(_encodable(part), COLOURS[style])
    return text


def _encodable(text: str) -> str:
    """The text as stdout can take it; our own signs have a stand-in in ASCII of the same width."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, errors="replace").decode(encoding)
    return text
