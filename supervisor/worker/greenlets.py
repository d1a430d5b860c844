"""Lets the soft limit reach a handler that waits in gevent's loop; says where a library keeps it out. Workers only.

Under gevent a handler waits by switching to the greenlet of the loop. A signal handler then runs on that greenlet's
stack, where an exception would end the loop and not the handler. gevent's own way to interrupt the waiting greenlet is
a callback of the loop that throws into it. Nothing is imported here: what user code has not loaded is not in use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def waiting_main() -> Any:
    """The greenlet that runs the worker, where another one runs now; None where it runs itself, or there are none."""
    greenlet = sys.modules.get("greenlet")
    if greenlet is None:
        return None
    main = current = greenlet.getcurrent()
    while main.parent is not None:
        main = main.parent
    return main if main is not current else None


def call_in_loop(call: Callable[..., object], *arguments: object) -> None:
    """Have gevent's loop call this in its next turn; nothing where there is no gevent, or another version of it."""
    gevent = sys.modules.get("gevent")
    try:
        gevent.get_hub().loop.run_callback_threadsafe(call, *arguments)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  (a library of the user's: without it the soft limit does not strike)
        return


def keeps_soft_limit_out() -> str:
    """The library below which a handler waits where the soft limit cannot strike; "" for none."""
    patcher = sys.modules.get("eventlet.patcher")
    try:
        return "eventlet" if patcher is not None and patcher.is_monkey_patched("time") else ""
    except Exception:  # noqa: BLE001  (as above)
        return "eventlet"
