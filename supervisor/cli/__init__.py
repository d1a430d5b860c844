"""The command line's entry point: what `preforkd` and `python -m supervisor` call first.

It imports nothing that takes time until SIGINT has its default action: most of a short command's time is imports, and
Ctrl-C amidst one would show a user the traceback of a KeyboardInterrupt.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
else:
    import _signal  # what `signal` wraps: that defines enumerations, which takes some milliseconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code. `argv`: without the program's name; None: the process's own.

    With the process's own, SIGINT ends the process as it ends any program, but while the command runs
    (`program.run`). A caller that ignores SIGINT (`nohup`, a background job of a shell) has it ignored.
    """
    if argv is None and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from supervisor.cli import program

    return program.run(argv)
