"""Names that user code has replaced in modules used by preforkd: reported, and restored after a failure of preforkd.

Used by forkservers and workers. A handler may patch any module (`builtins.open`, gevent's `patch_all`), so normally
nothing is restored. If preforkd's own code fails after user code has run, the process ends: the originals are restored
first, so that reason and stack can be reported, and the reason names the replacements. `put_back` must call no builtin:
it may be a replaced one.
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
    """The names in these modules when this object is made, before any user code has run."""

    def __init__(self) -> None:
        modules = ((name, vars(sys.modules[name])) for name in _MODULES if name in sys.modules)
        self._former = [
            (name, now, {key: value for key, value in now.items() if _is_fixed(key, value)}) for name, now in modules
        ]

    def put_back(self) -> list[str]:
        """Restore all of them; returns the names of those that were replaced, such as `builtins.len`."""
        replaced = []
        for module, now, former in self._former:
            for name, value in former.items():
                if now.get(name, _MISSING) is not value:
                    now[name] = value
                    replaced.append(f"{module}.{name}")
        return replaced


def _is_fixed(name: str, value: object) -> bool:
    """Whether a module never changes this name itself, unlike `sys.stdout` and `logging.lastResort`."""
    return callable(value) or name.isupper() or isinstance(value, ModuleType)


def blaming(reason: str, replaced: Sequence[str]) -> str:
    """The reason of a failure of preforkd, with the first of the names that user code had `replaced`."""
    if not replaced:
        return reason
    more = f" and {len(replaced) - _NAMED} more" if len(replaced) > _NAMED else ""
    return f"{reason}; user code had replaced {', '.join(replaced[:_NAMED])}{more}"
