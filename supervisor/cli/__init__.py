"""The command line's entry point: what `preforkd` and `python -m supervisor` call first.

It imports nothing that takes time until SIGINT has its default action: most of a short command's time is imports, and
Ctrl-C during one would show a user the traceback of a KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code. `argv`: without the program's name; None: the process's own.

    With the process's own, SIGINT ends the process as it ends any program, but while the command runs
    (`program.run`). A caller that ignores SIGINT (`nohup`, a background job of a shell) has it ignored. A probe
    (`status --probe`) is answered here where it can be: it must cost little.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if argv is None and any(word.startswith("--probe") for word in sys.argv):
        from supervisor.cli import probe

        if (answer := probe.quick(sys.argv[1:])) is not None:
            return answer
    from supervisor.cli import program

    return program.run(argv)
