"""Exceptions of user code as texts that fit into frames, records and message headers; the dumps of faulthandler.

User code may raise any exception: with an endless, failing or invalid text, with endless chains, groups and tracebacks.
The texts made here are always short, valid UTF-8. No exception of user code (in `__str__`, `__repr__`, a broken module
of the standard library) leaves these functions.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` calls, before it makes enums
import faulthandler
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType

from supervisor.system.posix import move_up

STACK_BYTES = 16 * 1024
REASON_BYTES = 1024

_FRAMES = 100
"""Most frames in a stack: the innermost ones."""

_LINKS = 20
"""Most exceptions in a chain of causes: the latest ones."""

_CALL_FILE = 'supervisor/worker/handler_call.py", line '
_WORKER_FILES, _ALARM = "supervisor/worker/", (" in _ring", " in _time_is_over")
_CUT = "[… cut …]\n"
_STACKS_MODE = 0o640
_SIGQUIT = int(signal.SIGQUIT)


def stack_of(error: BaseException, since: TracebackType | None = None) -> str:
    """The stack as Python prints it, the end of a long one. `since`: the first frame; None: the error's own first."""
    try:
        return _joined(_printed(error, error.__traceback__ if since is None else since))
    except BaseException as failure:  # noqa: BLE001  (whatever user code raises from its texts, and MemoryError)
        return f"(its stack cannot be had: {type(failure).__name__})\n{reason_of(error)}\n"


def reason_of(error: BaseException) -> str:
    """The exception's type and text: `ValueError: no such user`; the beginning of a long one."""
    kind, text = type(error), text_of(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _beginning_of(f"{name}: {text}" if text else name)


def text_of(error: BaseException) -> str:
    """The exception's own text, "" if it has none; the beginning of a long one."""
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001  (a user's __str__ may raise anything)
        text = f"(its text cannot be had: {type(failure).__name__})"
    return _beginning_of(text)


def users_frames(dump: str) -> str:
    """The `dump` of faulthandler, with only the frames of each thread below the handler's call.

    The frames of the time limit's alarm are left out as well.
    """
    kept, ours = [], False
    for line in dump.splitlines(keepends=True):
        ours = line.startswith("  File ") and (ours or (_CALL_FILE in line and line.rstrip().endswith(" in call")))
        if not ours and not (_WORKER_FILES in line and line.rstrip().endswith(_ALARM)):
            kept.append(line)
    return "".join(kept)


def open_stacks(pool_dir: str, name: str) -> int:
    """Open the empty file for the stacks of a process of a pool; `name`: `forkserver`, or a worker's slot."""
    folder = Path(pool_dir) / "stacks"
    folder.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    file = os.open(folder / f"{name}.txt", flags, _STACKS_MODE)
    with suppress(OSError):  # an older file of another user, which could be opened
        os.fchmod(file, _STACKS_MODE)  # the master reads it, and the import may have set another umask
    return move_up(file)


def dump_on_sigquit(file: int) -> None:
    """Let SIGQUIT write all stacks to the descriptor `file`; no system call if it does already.

    Called again after user code has run: it may have changed faulthandler or the handler of SIGQUIT.
    """
    faulthandler.cancel_dump_traceback_later()
    if _signal.getsignal(_SIGQUIT) is not _signal.SIG_DFL:
        _signal.signal(_SIGQUIT, _signal.SIG_DFL)
        faulthandler.unregister(_SIGQUIT)
    faulthandler.register(_SIGQUIT, file=file, all_threads=True, chain=False)


def dump_on_faults(file: int) -> None:
    """Let a crash and SIGQUIT write all stacks to the descriptor `file`."""
    faulthandler.enable(file=file, all_threads=True)
    dump_on_sigquit(file)


def sendable(text: str) -> str:
    """The text as valid UTF-8, with lone surrogates as escapes."""
    return _bytes(text).decode()


def _printed(error: BaseException, trace: TracebackType | None) -> Iterator[str]:
    links = list(islice(_chain(error), _LINKS + 1))
    if len(links) > _LINKS:
        links[_LINKS - 1].__cause__ = links[_LINKS - 1].__context__ = None
    return traceback.TracebackException(type(error), error, trace, limit=-_FRAMES, compact=True).format()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ if error.__cause__ is not None or error.__suppress_context__ else error.__context__


def _joined(chunks: Iterable[str]) -> str:
    text, length = "", 0
    for chunk in chunks:
        length += len(chunk)
        text = (text + chunk[-STACK_BYTES:])[-STACK_BYTES:]
    data = _bytes(text)
    if length <= STACK_BYTES and len(data) <= STACK_BYTES:
        return data.decode()
    return _CUT + data[-(STACK_BYTES - len(_CUT.encode())) :].decode(errors="ignore")


def _beginning_of(text: str) -> str:
    return _bytes(text[:REASON_BYTES])[:REASON_BYTES].decode(errors="ignore")


def _bytes(text: str) -> bytes:
    return str.encode(text, errors="backslashreplace")
