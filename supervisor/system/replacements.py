"""What user code has replaced in modules that preforkd's own code calls: named, and put back where preforkd has failed.

Used by forkservers and workers. A handler may patch what it likes (`builtins.open`, gevent's `patch_all`), so nothing
is put back as long as all goes well. Where preforkd's own code fails after user code has run, the process ends: the
originals come back first, so that the reason and the stack can be told, and the reason names what was replaced. No
builtin may be called in `put_back`: it may be the one that is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

_MODULES = (
    *("builtins", "contextlib", "fcntl", "faulthandler", "gc", "inspect", "io", "json", "logging", "mmap", "msgspec"),
    *("msgspec.json", "msgspec.msgpack", "os", "pathlib", "select", "setproctitle", "signal", "socket", "struct"),
    *("sys", "threading", "time", "traceback", "types"),
)
_NAMED = 5
_MISSING = object()


class Replacements:
    """What these modules define and import at the time this is made, before any user code has run."""

    def __init__(self) -> None:
        modules = ((name, vars(sys.modules[name])) for name in _MODULES if name in sys.modules)
        self._former = [
            (name, now, {key: value for key, value in now.items() if _is_fixed(key, value)}) for name, now in modules
        ]

    def put_back(self) -> list[str]:
        """Put all of them back; the names of those that were replaced: `builtins.len`."""
        replaced = []
        for module, now, former in self._former:
            for name, value in former.items():
                if now.get(name, _MISSING) is not value:
                    now[name] = value
                    replaced.append(f"{module}.{name}")
        return replaced


def _is_fixed(name: str, value: object) -> bool:
    """Whether a module never changes this itself; `sys.stdout` and `logging.lastResort` are not of that kind."""
    return callable(value) or name.isupper() or isinstance(value, ModuleType)


def blaming(reason: str, replaced: Sequence[str]) -> str:
    """The reason of a failure of ours, and what user code had replaced before; some names of many."""
    if not replaced:
        return reason
    more = f" and {len(replaced) - _NAMED} more" if len(replaced) > _NAMED else ""
    return f"{reason}; user code had replaced {', '.join(replaced[:_NAMED])}{more}"
