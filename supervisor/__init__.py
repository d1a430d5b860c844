"""preforkd: a pre-fork process supervisor for message workers. This module is the API for handlers.

Every process and every handler's test imports it, so it imports nothing heavy. The names below are loaded at their
first use: the command line must reach its entry point before any other import (cli/__init__.py).
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from supervisor.api import Message, Reject, Retry, SoftTimeout, record_group
    from supervisor.messages.message import Properties
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from supervisor import api

        return globals().setdefault(name, getattr(api, name))


__version__ = "0.1.0"

__all__ = ["Message", "Properties", "Reject", "Retry", "SoftTimeout", "__version__", "record_group"]
