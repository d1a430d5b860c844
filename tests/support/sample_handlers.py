"""Handlers as users write them, good and bad; imported by real forkservers in tests, never by the tests themselves.

`run` does what the message's body, a JSON object, says: {"do": "wait", "gate": "/path/of/a/fifo"}.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from supervisor import Message, Reject, Retry, SoftTimeout, record_group
from supervisor.scoreboard.slot import Slot

atexit.register(lambda: note("exit callback of the import"))


def note(text: str) -> None:
    """Leave a line for the test to find."""
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(f"{text}\n")


def run(message: Message) -> object:
    order = message.json()
    return _DO[order["do"]](message, order)


def init() -> None:
    note(f"init {os.getpid()}")
    atexit.register(lambda: note("exit callback of init"))


def allow_no_timers() -> None:
    """No timer of timer_create(2) can be made from here on."""
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))


def stop_behind_the_mark() -> None:
    """The worker is stopped each time right after it has marked a run."""
    mark_running = Slot.mark_running

    def mark_and_stop(*arguments: Any) -> None:
        mark_running(*arguments)
        os.kill(os.getpid(), signal.SIGSTOP)

    Slot.mark_running = mark_and_stop  # type: ignore[method-assign]


def failing_init() -> None:
    raise RuntimeError("no database today")


def exiting_init() -> None:
    sys.exit(0)


def grow(message: Message, order: dict[str, Any]) -> None:
    """Private memory that stays, of 64 MiB."""
    sys.big = bytearray(os.urandom(1024) * 65536)  # type: ignore[attr-defined]


def facts(message: Message, order: dict[str, Any]) -> None:
    assert message.deadline is not None
    known = {
        "id": message.id,
        "headers": message.headers,
        "type": message.properties.type,
        "queue": message.queue,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "round": message.round,
        "attempt": message.attempt,
        "redelivered": message.redelivered,
        "maybe_duplicate": message.maybe_duplicate,
        "remaining_s": message.remaining_s,
        "pid": os.getpid(),
        "pgid": os.getpgid(0),
        "ppid": os.getppid(),
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
        "cmdline": Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode(),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "descriptors": [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()],
    }
    note(json.dumps(known))


def wait(message: Message, order: dict[str, Any]) -> None:
    """Until the test opens the other end of the gate, a FIFO."""
    note(f"waiting {message.id}")
    Path(order["gate"]).read_bytes()


def spin(message: Message, order: dict[str, Any]) -> None:
    note(f"spinning {message.id}")
    try:
        while True:
            pass
    except SoftTimeout:
        note("soft timeout was seen")
        if order.get("extend"):
            message.extend(order["extend"])
        if not order.get("swallow"):
            raise
    while order["swallow"] == "spin":
        pass


def spin_in_c(message: Message, order: dict[str, Any]) -> None:
    """Holds the interpreter and never looks at signals."""
    note(f"spinning {message.id}")
    sum(range(10**12))


def extend_too_far(message: Message, order: dict[str, Any]) -> None:
    message.extend(1e6)


def publish(message: Message, order: dict[str, Any]) -> None:
    for number in range(order.get("count", 2)):
        message.publish(f"copy {number}", routing_key="audit", headers={"n": number}, message_id=f"p{number}")
    if order.get("then") == "fail":
        raise RuntimeError("after publishing")


def fork_and_return(message: Message, order: dict[str, Any]) -> None:
    """The classic mistake: the child comes back out of the handler as well."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        note(f"child status {os.waitstatus_to_exitcode(status)}")


def fork_and_terminate(message: Message, order: dict[str, Any]) -> None:
    """As multiprocessing's terminate() does."""
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(ready_write, b"\0")
        while True:
            signal.pause()
    os.read(ready_read, 1)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    note(f"child status {os.waitstatus_to_exitcode(status)}")


def steal_signals(message: Message, order: dict[str, Any]) -> None:
    """As an event loop does that adds and removes its own handlers."""

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(listen())


def coroutine(message: Message, order: dict[str, Any]) -> Awaitable[None]:
    async def never() -> None:
        note("this must not run")

    return never()


def bad_text(message: Message, order: dict[str, Any]) -> None:
    raise ValueError("half a character: \udc80 and \N{SNOWMAN} " + "x" * 100_000)


def group(message: Message, order: dict[str, Any]) -> None:
    record_group(os.getpid())
    note("recorded")


def _raise(error: BaseException) -> None:
    raise error


def hang_at_exit(message: Message, order: dict[str, Any]) -> None:
    """Register an exit callback that never ends, in one of these ways; then leave with `status`, where there is one."""
    lock = threading.Lock()
    lock.acquire()
    ways: dict[str, Callable[[], object]] = {
        "event": lambda: threading.Event().wait(),
        "lock": lock.acquire,
        "pause": lambda: [signal.pause() for _ in iter(int, 1)],
        "pipe": lambda: os.read(os.pipe()[0], 1),
        "busy": lambda: all(True for _ in iter(int, 1)),
        "alarm taken": lambda: (signal.setitimer(signal.ITIMER_REAL, 3600), lock.acquire()),
        "signal taken": lambda: (signal.signal(signal.SIGALRM, signal.SIG_IGN), lock.acquire()),
    }
    atexit.register(lambda: note(f"hangs: {order['way']}"))
    atexit.register(ways[order["way"]])
    if "status" in order:
        sys.exit(order["status"])


_DO: dict[str, Callable[[Message, dict[str, Any]], object]] = {
    "done": lambda message, order: note(f"done {message.id}"),
    "nothing": lambda message, order: None,
    "grow": grow,
    "hang_at_exit": hang_at_exit,
    "fail": lambda message, order: _raise(ValueError(order.get("why", "no such user"))),
    "retry": lambda message, order: _raise(Retry(order.get("delay"), order.get("why", ""))),
    "reject": lambda message, order: _raise(Reject(order.get("why", ""))),
    "keyboard_interrupt": lambda message, order: _raise(KeyboardInterrupt()),
    "exit": lambda message, order: sys.exit(order["with"]),
    "os_exit": lambda message, order: os._exit(order["with"]),
    "exec": lambda message, order: os.execv("/bin/sh", ["sh", "-c", order["script"]]),
    "segfault": lambda message, order: ctypes.string_at(0),
    "print": lambda message, order: print(order["text"]),  # noqa: T201  (that is what is tested)
    "facts": facts,
    "wait": wait,
    "spin": spin,
    "spin_in_c": spin_in_c,
    "extend_too_far": extend_too_far,
    "publish": publish,
    "fork_and_return": fork_and_return,
    "fork_and_terminate": fork_and_terminate,
    "steal_signals": steal_signals,
    "coroutine": coroutine,
    "bad_text": bad_text,
    "group": group,
}
