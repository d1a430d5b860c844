"""Reads a file as text, with or without a byte order mark, or gives the reason why it is no text.

Used for the configuration and for the files that it names (`url_file`, `webhook_file`).
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from supervisor.system.access import obstacle

MOST_BYTES = 4 * 1024**2

_OTHER_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))


class NoText(Exception):
    """The file cannot be read as text; `place` is where in it, `hint` what to do."""

    def __init__(self, place: str, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.place, self.reason, self.hint = place, reason, hint


def read_text(path: Path) -> tuple[str, os.stat_result]:
    """The text of a file, and what is known of the file. Raises NoText, FileNotFoundError."""
    try:
        _refuse_others(path.stat())
        with path.open("rb") as file:
            return decoded(file.read()), os.fstat(file.fileno())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> NoText:
    """What to say of a file that cannot be read: the directory that this user may not pass, and what helps."""
    found = obstacle(path) if isinstance(error, PermissionError) else None
    if found is None:
        return NoText("file", f"cannot be read: {error.strerror}")
    return NoText("file", f"cannot be read: {found}", found.command(secret=True))


def decoded(data: bytes) -> str:
    """The text of UTF-8 `data`, without its byte order mark. Raises NoText."""
    for mark, name in _OTHER_MARKS:
        if data.startswith(mark):
            raise NoText("byte 0", f"it is not UTF-8 but {name}", "save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NoText(f"byte {error.start}", "it is not UTF-8", "save it as UTF-8") from None


def _refuse_others(found: os.stat_result) -> None:
    """Opening a pipe may wait for ever, and a device has no end."""
    if stat.S_ISDIR(found.st_mode):
        raise NoText("file", "cannot be read: Is a directory", "name the file in it")
    if not stat.S_ISREG(found.st_mode):
        raise NoText("file", "is no regular file: it is read again with each reload", "write it to a file")
    if found.st_size > MOST_BYTES:
        raise NoText("file", f"has more than {MOST_BYTES // 1024**2} MiB: this is no configuration")
