"""Where a view is shown: a terminal, which is taken over and always given back, or plain text for everything else.

The only place with termios. rich turns styles into what this terminal can show (NO_COLOR included).
"""

from __future__ import annotations

import codecs
import os
import shutil
import sys
import termios
import tty
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

import click
from rich.console import Console, Group

from supervisor.cli.top.frame import Frame, Size

_PAPER = (120, 40)
_NO_SCREEN = frozenset({"", "dumb", "unknown"})
_ASCII = {"█": "#", "░": ".", "…": "~", "·": "-"}
_INPUT_FLAGS = 0  # of the list that tcgetattr(3) gives
_KEY_BYTES = 1024


class Display:
    """Standard output. `live`: it is a terminal that can move its cursor, so a frame replaces the one before it."""

    def __init__(self, keys: bool) -> None:
        """`keys`: whether keys are of any use; they are read where stdin is a terminal, too."""
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "") not in _NO_SCREEN
        self.keys = keys and self.live and sys.stdin.isatty()
        colours: Any = {"force_terminal": True} if self.live else {"color_system": None}
        self._console = Console(markup=False, highlight=False, emoji=False, **colours)
        self._former: list[Any] | None = None
        codecs.register_error("preforkd.signs", _stand_in)
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="preforkd.signs")

    def size(self) -> Size:
        """As the terminal is now; elsewhere as COLUMNS and LINES say, or what is comfortable to read."""
        return Size(*(os.get_terminal_size(sys.stdout.fileno()) if self.live else shutil.get_terminal_size(_PAPER)))

    def show(self, frame: Frame) -> None:
        """Replace the whole screen; elsewhere print a block, and an empty line after it."""
        if self.live:
            self._console.size = self.size()  # not COLUMNS and LINES of another size
            self._console.update_screen(frame.filling())
        else:
            self.print(frame)
            click.echo()

    def print(self, frame: Frame) -> None:
        """Write a frame without taking anything over."""
        self._console.size = self.size()
        with self._console.capture() as text:
            self._console.print(Group(*frame.head, *frame.body, *frame.bottom), crop=False)
        click.echo("\n".join(line.rstrip() for line in text.get().splitlines()).rstrip())

    def enter(self) -> None:
        """Take a terminal over. Ctrl-S must not stop us: what is stopped gives nothing back."""
        if self.keys:
            self._former = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)
            wanted = termios.tcgetattr(sys.stdin)
            wanted[_INPUT_FLAGS] &= ~termios.IXON
            termios.tcsetattr(sys.stdin, termios.TCSANOW, wanted)
        if self.live:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)

    def leave(self) -> None:
        """Give the terminal back; one that has gone (a closed window) needs nothing."""
        if self.live:
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


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """A text that stdout's encoding lacks, in ASCII: our own signs have a stand-in of the same width."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(char, "?") for char in error.object[error.start : error.end]), error.end
