"""Things that user code does to the process it runs in, by name; a handler that does them where a test wants it.

Imported by real forkservers, and by tests for the names only. Where: at import (`DEED` in the environment), in `init`
(the file `deed` in the folder of the notes), in a run, or in a thread that outlives its run (the message's body).
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import ctypes
import decimal
import faulthandler
import gc
import locale
import logging
import logging.config
import multiprocessing
import os
import random
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor import Message

_kept: list[Any] = []
_NOTES = Path(os.environ.get("NOTES", "/nonexistent"))
_open = open
_real_monotonic = time.monotonic


def refuse(*given: Any, **named: Any) -> Any:
    """Put in the place of something that is never to be called again."""
    raise RuntimeError("patched by user code")


# ---- signals and timers -------------------------------------------------------------------------------------------


def asyncio_takes_sigterm() -> None:
    loop = asyncio.new_event_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    _kept.append(loop)  # never closed: it keeps the signal


def alarm_that_raises() -> None:
    signal.signal(signal.SIGALRM, refuse)
    signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)


def alarm_that_kills() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.03)


def profiling_timer_that_kills() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, 0.05)


def wakeup_fd_is_taken() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    _kept.append((reading, writing))
    signal.set_wakeup_fd(writing)


# ---- descriptors and streams --------------------------------------------------------------------------------------


def stderr_is_the_users_file() -> None:
    os.close(2)
    _kept.append(_open(_NOTES.parent / "users-file", "a"))


def all_descriptors_closed() -> None:
    os.closerange(3, 2000)


def all_descriptors_closed_and_used() -> None:
    os.closerange(3, 2000)
    _kept.extend(_open(_NOTES.parent / "users-file", "a") for _ in range(20))


def streams_closed() -> None:
    sys.stdout.close()
    sys.stderr.close()


def streams_gone() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


def streams_replaced() -> None:
    sys.stdout = sys.stderr = object()  # type: ignore[assignment]


# ---- logging ------------------------------------------------------------------------------------------------------


def django_logging() -> None:
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": True, "loggers": {"django": {"level": "INFO"}}}
    )


def root_handlers_gone() -> None:
    logging.getLogger().handlers.clear()


# ---- the process --------------------------------------------------------------------------------------------------


def directory_deleted() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    shutil.rmtree(folder)


def lower(which: int, soft: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))


def new_root() -> None:
    os.chroot(_NOTES.parent)


def no_parent_death_signal() -> None:
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)


# ---- the interpreter ----------------------------------------------------------------------------------------------


def little_depth() -> None:
    for depth in range(5, 100):
        try:
            sys.setrecursionlimit(depth)
        except RecursionError:
            continue
        return


def modules_gone() -> None:
    for name in [name for name in sys.modules if not name.startswith(("sys", "builtins"))]:
        del sys.modules[name]
    sys.path.clear()


def patched(target: Any, *names: str) -> Callable[[], None]:
    return lambda: [setattr(target, name, refuse) for name in names] and None


def time_stands_still() -> None:
    time.time = time.monotonic = lambda: 0.0  # type: ignore[assignment]
    for module in list(sys.modules.values()):  # as libraries do that freeze time for tests
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is _real_monotonic and module is not sys.modules[__name__]:
                setattr(module, name, time.monotonic)


def exit_does_nothing() -> None:
    os._exit = lambda status: None  # type: ignore[assignment,misc]


DEEDS: dict[str, Callable[[], object]] = {
    "SIGTERM ignored": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "SIGTERM raises": lambda: signal.signal(signal.SIGTERM, refuse),
    "SIGTERM taken by asyncio": asyncio_takes_sigterm,
    "SIGPIPE at its default": lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    "SIGQUIT taken": lambda: signal.signal(signal.SIGQUIT, refuse),
    "all signals blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    "an alarm that raises": alarm_that_raises,
    "an alarm that kills": alarm_that_kills,
    "a profiling timer that kills": profiling_timer_that_kills,
    "the wake-up descriptor taken": wakeup_fd_is_taken,
    "faulthandler off": faulthandler.disable,
    "faulthandler as a watchdog": lambda: faulthandler.dump_traceback_later(0.1, exit=True),
    "descriptor 2 is a file of its own": stderr_is_the_users_file,
    "descriptors 0, 1 and 2 closed": lambda: [os.close(number) for number in range(3)],
    "all other descriptors closed": all_descriptors_closed,
    "all other descriptors closed and used": all_descriptors_closed_and_used,
    "streams closed": streams_closed,
    "streams gone": streams_gone,
    "streams replaced": streams_replaced,
    "logging as Django has it": django_logging,
    "logging shut down": logging.shutdown,
    "logging disabled": lambda: logging.disable(logging.CRITICAL),
    "root handlers gone": root_handlers_gone,
    "a record factory that raises": lambda: logging.setLogRecordFactory(refuse),
    "a default socket timeout": lambda: socket.setdefaulttimeout(0.001),
    "sockets patched": patched(socket, "socket"),
    "poll and select patched": patched(select, "poll", "select", "epoll"),
    "locks patched": patched(threading, "Lock", "RLock", "Event"),
    "thread hooks that raise": patched(threading, "excepthook"),
    "the working directory deleted": directory_deleted,
    "no file mode allowed": lambda: os.umask(0o777),
    "no new descriptors": lower(resource.RLIMIT_NOFILE, 3),
    "no file may grow": lower(resource.RLIMIT_FSIZE, 0),
    "no processes": lower(resource.RLIMIT_NPROC, 1),
    "a second of processor time": lower(resource.RLIMIT_CPU, 1),
    "another effective user": lambda: os.seteuid(65534),
    "another user for good": lambda: os.setuid(65534),
    "another root directory": new_root,
    "no signal at the parent's death": no_parent_death_signal,
    "less priority": lambda: os.nice(5),
    "a trace function that raises": lambda: sys.settrace(refuse),
    "a profile function that raises": lambda: sys.setprofile(refuse),
    "little depth": little_depth,
    "an audit hook": lambda: sys.addaudithook(lambda event, arguments: None),
    "hooks of sys that raise": patched(sys, "excepthook", "unraisablehook", "displayhook"),
    "modules and path gone": modules_gone,
    "warnings are errors": lambda: warnings.simplefilter("error"),
    "another locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "an empty environment": os.environ.clear,
    "no garbage collection": gc.disable,
    "an event loop policy": lambda: asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy()),
    "a random seed": lambda: random.seed(0),
    "decimals of one digit": lambda: decimal.setcontext(decimal.Context(prec=1)),
    "time stands still": time_stands_still,
    "exit does nothing": exit_does_nothing,
    "os patched": patched(os, "fork", "kill", "waitpid", "read", "pipe", "pipe2", "getppid"),
    "open and print patched": patched(builtins, "open", "print"),
    "an exit callback that raises": lambda: atexit.register(refuse),
    "a start method": lambda: multiprocessing.set_start_method("spawn", force=True),
}
"""By name; "patched by user code" is what anything raises that preforkd calls after it was patched."""


def do(name: str) -> None:
    """Do one; that it is refused here (a signal handler in a thread) is no matter."""
    try:
        DEEDS[name]()
    except (OSError, ValueError, RuntimeError) as error:
        if "patched" in str(error):
            raise


def run(message: Message) -> None:
    """Do what the body says: `run:NAME`, `thread:NAME` once the run is over, `join:` that thread, or nothing."""
    where, _, deed = message.body.decode().partition(":")
    if where == "thread":
        thread = threading.Thread(target=_later, args=(message, deed), daemon=True)
        thread.start()
        _kept.append(thread)
    elif where == "join":
        _kept[0].join()
    elif where == "run":
        do(deed)


def _later(message: Message, deed: str) -> None:
    while not message.limit.is_over:  # type: ignore[union-attr]
        pass
    do(deed)


def init() -> None:
    """Do what the file says."""
    do((_NOTES.parent / "deed").read_text())


if "DEED" in os.environ:
    do(os.environ["DEED"])
