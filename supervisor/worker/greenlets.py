"""Applies the soft limit to a handler that waits in gevent's loop; names libraries that prevent it. Workers only.

Under gevent a handler waits by switching to the greenlet of the loop. A signal handler then runs on that greenlet's
stack, where an exception would end the loop and not the handler. gevent's own way to interrupt the waiting greenlet is
a callback of the loop that throws into it. Nothing is imported here: a library that user code has not loaded is unused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def waiting_main() -> Any:
    """The worker's own greenlet while another one runs; None while it runs itself, or without greenlets."""
    greenlet = sys.modules.get("greenlet")
    if greenlet is None:
        return None
    main = current = greenlet.getcurrent()
    while main.parent is not None:
        main = main.parent
    return main if main is not current else None


def call_in_loop(call: Callable[..., object], *arguments: object) -> None:
    """Let gevent's loop call `call(*arguments)` in its next pass; nothing without a known version of gevent."""
    gevent = sys.modules.get("gevent")
    try:
        gevent.get_hub().loop.run_callback_threadsafe(call, *arguments)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  (a library of the user's: without it there is no soft limit)
        return


def keeps_soft_limit_out() -> str:
    """The loaded library in whose waits the soft limit has no effect; "" for none."""
    patcher = sys.modules.get("eventlet.patcher")
    try:
        return "eventlet" if patcher is not None and patcher.is_monkey_patched("time") else ""
    except Exception:  # noqa: BLE001  (as above)
        return "eventlet"
