"""Where the configuration is, and, for a probe, where the daemon's socket is. Read by the command line.

A probe runs every few seconds: this file imports nothing that costs time, and reads no more than it needs. What is
unusual here (a variable, `~`, no file) is left to `load.py`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "PREFORKD_CONFIG"
FILE_NAME = "preforkd.toml"
SEARCHED = (FILE_NAME, f"/etc/preforkd/{FILE_NAME}")
RUNTIME_DIR = "/run/preforkd"
"""The default of `runtime_dir` in [daemon]."""

_KEY = "runtime_dir"
_UNUSUAL = frozenset("$~\0")


def named(path: str | None, environment: Mapping[str, str]) -> str:
    """The configuration's path: `path` (of --config), $PREFORKD_CONFIG, or the first file there is; "" for none."""
    found = path or environment.get(VARIABLE)
    return found or next((candidate for candidate in SEARCHED if os.access(candidate, os.F_OK)), "")


def plain_runtime_dir(path: str | None) -> str:
    """The runtime directory of the configuration that `path` or the environment names; "" where `load` has to tell.

    A file that does not name the key need not even be TOML: a mistake in it concerns the next start, not this daemon.
    """
    source = named(path, os.environ)
    try:
        with open(source, "rb") as file:
            data = file.read()
        if _KEY.encode() not in data:
            return RUNTIME_DIR
        value = _value(data)
        if not value or _UNUSUAL & set(value):
            return ""
        return os.path.join(os.getcwd(), os.path.dirname(source), value)
    except OSError:
        return ""


def _value(data: bytes) -> str:
    """The text of the key; "" for another value, and where the file is no TOML."""
    import tomllib  # loaded late: a file in a container need not name the key

    try:
        daemon = tomllib.loads(data.decode("utf-8-sig")).get("daemon", {})
    except (ValueError, RecursionError):
        return ""
    value = daemon.get(_KEY, RUNTIME_DIR) if isinstance(daemon, dict) else ""
    return value if isinstance(value, str) else ""
