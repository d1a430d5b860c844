"""A real terminal of a chosen size that tests type into and read: a tmux server of its own, with a shell in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.shells import with_command
from tests.support.source_tree import ROOT
from tests.support.tools import tool
from tests.support.waiting import eventually

PROMPT = "$ "


class Tmux:
    """One window, a shell in `folder`, its socket below that; `preforkd` is a command of the shell."""

    def __init__(self, folder: Path, config: Path, width: int, height: int) -> None:
        self._program = tool("tmux")
        self._socket = folder / "tmux"
        path = f"{with_command(folder, options=f'--config {config}')}:{os.environ['PATH']}"
        environment = ["env", f"PATH={path}", f"PYTHONPATH={ROOT}", f"PS1={PROMPT}", "ENV=", "LC_ALL=C.UTF-8"]
        self._tell("new-session", "-d", "-c", str(folder), "-x", str(width), "-y", str(height), *environment, "sh")

    def types(self, *keys: str) -> None:
        """Press keys, as tmux names them: `q`, `Tab`, `C-z`, `NPage`; a longer text is typed as it is."""
        self._tell("send-keys", *keys)

    def runs(self, command: str) -> None:
        """Type a command at the prompt: what is typed before the shell asks stands above it, and hides that it ran."""
        self.at_prompt()
        self.types(command, "Enter")

    def screen(self) -> str:
        """What stands there now."""
        return self._tell("capture-pane", "-p")

    def shows(self, *words: str) -> str:
        """The screen, as soon as all of this is on it."""
        seen = ""

        def complete() -> bool:
            nonlocal seen
            seen = self.screen()
            return all(word in seen for word in words)

        try:
            eventually(complete, f"the screen shows {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{seen}") from None
        return seen

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._tell("resize-window", "-x", str(width), "-y", str(height))

    def fact(self, name: str) -> str:
        """A variable of tmux about the window: `alternate_on`, `cursor_flag`."""
        return self._tell("display-message", "-p", f"#{{{name}}}").strip()

    def at_prompt(self) -> str:
        """What stands on the shell's own screen, once it is back there and asks for a command."""
        eventually(lambda: self.fact("alternate_on") == "0", "the program gave the screen back")
        return eventually(lambda: (s := self.screen().rstrip("\n")).endswith(PROMPT.strip()) and s, "a prompt")

    def close(self) -> None:
        """End everything in it."""
        self._tell("kill-server")

    def _tell(self, *words: str) -> str:
        command = [self._program, "-S", str(self._socket), "-f", "/dev/null", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@contextmanager
def tmux(folder: Path, config: Path, width: int = 80, height: int = 24) -> Iterator[Tmux]:
    """A terminal for a test."""
    terminal = Tmux(folder, config, width, height)
    try:
        yield terminal
    finally:
        terminal.close()
