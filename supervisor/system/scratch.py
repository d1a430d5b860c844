"""A folder for files of one command: in $TMPDIR, /tmp and so on, or where else something can be written. No state.

Used by the command line. A container with a read-only root may have no /tmp; its state and runtime directories are on
volumes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from supervisor.errors import StateError

_SOCKET_BYTES = 107
"""The longest path of a socket: sun_path of unix(7) is 108 bytes, its end included."""


def scratch_folder(prefix: str, what: str, places: Iterable[Path] = (), socket: str = "") -> Path:
    """A new folder; its caller removes it.

    `what`: the thing it is for, in the error; `places`: tried after the usual ones; `socket`: the longest path of a
    socket in it. Raises StateError if nothing can be written anywhere.
    """
    tried: list[str] = []
    too_long = ""
    for place in (None, *places):
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place)).absolute()
            if not socket or len(os.fsencode(folder / socket)) <= _SOCKET_BYTES:
                return folder
            folder.rmdir()
            too_long = "; the path of a socket in it has at most 107 bytes"
        tried.append("$TMPDIR, /tmp, /var/tmp, the current folder" if place is None else str(place))
    raise StateError(
        f"no folder for {what}: no file can be written in {', '.join(tried)}; name one in TMPDIR{too_long}"
    )
